// The words of the language. re2c makes the scanner from this; the text ends with a NUL that is not part of it.
#include "expr/grammar.h"
#include "expr/parse_priv.h"

static int bad(struct expr_scanner *s, const char *problem, const char *suggestion)
{
    s->problem = problem;
    s->suggestion = suggestion;
    return EXPR_TK_BAD;
}

// A word that means something, unless it stands behind a dot.
static int word(const struct expr_scanner *s, int token)
{
    return s->after_dot ? EXPR_TK_ID : token;
}

static int reserved(struct expr_scanner *s)
{
    return s->after_dot ? EXPR_TK_ID : bad(s, "is reserved for later", NULL);
}

static int scan(struct expr_scanner *s, const uint8_t **ret_first)
{
    const uint8_t *YYCURSOR = s->p;
    const uint8_t *YYMARKER;
    const uint8_t *YYCTXMARKER;
    const uint8_t *const YYLIMIT = s->end;
#define WORD(token) s->p = YYCURSOR; return word(s, (token));
#define SIGN(token) s->p = YYCURSOR; return (token);
#define BAD(problem, suggestion) s->p = YYCURSOR; return bad(s, (problem), (suggestion));
    for (;;) {
        *ret_first = YYCURSOR;
        /*!re2c
        re2c:define:YYCTYPE = "uint8_t";
        re2c:yyfill:enable = 0;
        re2c:eof = 0;

        blank  = [ \t\r\n];
        digit  = [0-9];
        letter = [A-Za-z_];
        name   = letter (letter | digit)*;

        $                   { s->p = s->end; return 0; }
        blank+              { continue; }
        "--" [^\x00\n]*     { continue; }
        "/*" ([^*\x00] | ("*"+ [^*/\x00]))* "*"+ "/"   { continue; }
        "/*"                { BAD("begins a comment that does not end", "*/") }

        'and'       { WORD(EXPR_TK_AND) }
        'or'        { WORD(EXPR_TK_OR) }
        'not'       { WORD(EXPR_TK_NOT) }
        'is'        { WORD(EXPR_TK_IS) }
        'null'      { WORD(EXPR_TK_NULL) }
        'true'      { WORD(EXPR_TK_TRUE) }
        'false'     { WORD(EXPR_TK_FALSE) }
        'unknown'   { WORD(EXPR_TK_UNKNOWN) }
        'distinct'  { WORD(EXPR_TK_DISTINCT) }
        'from'      { WORD(EXPR_TK_FROM) }
        'between'   { WORD(EXPR_TK_BETWEEN) }
        'in'        { WORD(EXPR_TK_IN) }
        'like'      { WORD(EXPR_TK_LIKE) }
        'ilike'     { WORD(EXPR_TK_ILIKE) }
        'glob'      { WORD(EXPR_TK_GLOB) }
        'escape'    { WORD(EXPR_TK_ESCAPE) }
        'case'      { WORD(EXPR_TK_CASE) }
        'when'      { WORD(EXPR_TK_WHEN) }
        'then'      { WORD(EXPR_TK_THEN) }
        'else'      { WORD(EXPR_TK_ELSE) }
        'end'       { WORD(EXPR_TK_END) }
        'as'        { WORD(EXPR_TK_AS) }
        'where'     { WORD(EXPR_TK_WHERE) }
        'select'    { WORD(EXPR_TK_SELECT) }
        'window' | 'having' | ('group' blank+ 'by') | ('order' blank+ 'by')
                    { s->p = YYCURSOR; return reserved(s); }
        'regexp' | 'rlike'
                    { s->p = YYCURSOR; return s->after_dot ? EXPR_TK_ID : bad(s, "is not offered: like and glob are", "like"); }

        // Names of their own elsewhere; these words only before what makes them more.
        'time'     / (blank* "'")   { WORD(EXPR_TK_TIME) }
        'at'       / (blank* "'")   { WORD(EXPR_TK_AT) }
        'interval' / (blank* "'")   { WORD(EXPR_TK_INTERVAL) }
        'cast'     / (blank* "(")   { WORD(EXPR_TK_CAST) }
        'extract'  / (blank* "(")   { WORD(EXPR_TK_EXTRACT) }
        'exists'   / (blank* "(")   { WORD(EXPR_TK_EXISTS) }
        'any'      / (blank* "(")   { WORD(EXPR_TK_ANY) }
        'all'      / (blank* "(")   { WORD(EXPR_TK_ALL) }
        'polygon'  / (blank* "(")   { WORD(EXPR_TK_POLYGON) }

        name                                        { SIGN(EXPR_TK_ID) }
        ["] ([^"\x00] | ["]["])+ ["]                { SIGN(EXPR_TK_QID) }
        ["] ["]                                     { BAD("is a name without letters", NULL) }
        ["]                                         { BAD("begins a name that does not end", NULL) }
        ['] ([^'\x00] | [']['])* [']                { SIGN(EXPR_TK_STRING) }
        [']                                         { BAD("begins a text that does not end", NULL) }
        digit+                                      { SIGN(EXPR_TK_INTEGER) }
        "0" [xX] [0-9a-fA-F]+                       { SIGN(EXPR_TK_INTEGER) }
        digit+ ("." digit+)? ([eE] [+-]? digit+)?   { SIGN(EXPR_TK_REAL) }
        digit+ letter (letter | digit)*             { BAD("is neither a number nor a name", NULL) }

        "="     { SIGN(EXPR_TK_EQ) }
        "<>"    { SIGN(EXPR_TK_NE) }
        "!="    { SIGN(EXPR_TK_NE) }
        "<"     { SIGN(EXPR_TK_LT) }
        "<="    { SIGN(EXPR_TK_LE) }
        ">"     { SIGN(EXPR_TK_GT) }
        ">="    { SIGN(EXPR_TK_GE) }
        "+"     { SIGN(EXPR_TK_PLUS) }
        "-"     { SIGN(EXPR_TK_MINUS) }
        "*"     { SIGN(EXPR_TK_STAR) }
        "/"     { SIGN(EXPR_TK_SLASH) }
        "%"     { SIGN(EXPR_TK_PERCENT) }
        "||"    { SIGN(EXPR_TK_CONCAT) }
        "."     { SIGN(EXPR_TK_DOT) }
        ","     { SIGN(EXPR_TK_COMMA) }
        "("     { SIGN(EXPR_TK_LP) }
        ")"     { SIGN(EXPR_TK_RP) }
        "{"     { SIGN(EXPR_TK_LBRACE) }
        "}"     { SIGN(EXPR_TK_RBRACE) }
        ":"     { SIGN(EXPR_TK_COLON) }
        "["     { SIGN(EXPR_TK_LB) }
        "]"     { SIGN(EXPR_TK_RB) }

        "=="        { BAD("is not used here: one = compares", "=") }
        "&&" | "&"  { BAD("is not used here: write and", "and") }
        "|"         { BAD("is not used here: write or", "or") }
        "!"         { BAD("is not used here: write not", "not") }
        [\x80-\xbf\xc0-\xff]+  { BAD("is no name: put other letters in double quotes", NULL) }
        *           { BAD("means nothing here", NULL) }
        */
    }
#undef WORD
#undef SIGN
#undef BAD
}

int expr_scan(struct expr_scanner *s, struct expr_token *ret)
{
    const uint8_t *first;
    int token = scan(s, &first);
    ret->offset = (uint32_t)(first - s->start);
    ret->length = (uint32_t)(s->p - first);
    s->after_dot = token == EXPR_TK_DOT;
    return token;
}
