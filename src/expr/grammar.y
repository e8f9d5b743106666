// The grammar of the expression language. lemon makes the parser from this.
//
// Conditions, predicates and sums are three floors, so that `a = b and not c` needs no parentheses and `a = b = c` is an
// error instead of a surprise. Loosest first: or, and, not, comparison, + -, ||, * / %, unary -, path.
%name ExprGrammar
%token_prefix EXPR_TK_
%token_type {struct expr_token}
%default_type {struct expr_node *}
%extra_argument {struct expr_parse *p}
%stack_size 256
%stack_overflow {
    p->overflow = true;
}
%include {
#include <assert.h>

#include "expr/parse_priv.h"

#define ExprGrammar_ENGINEALWAYSONSTACK 1
}

%token BAD.
%left OR.
%left AND.
%right NOT.
%left PLUS MINUS.
%left CONCAT.
%left STAR SLASH PERCENT.
%right UNARY.

%start_symbol input
input ::= START cond(A).                                   { p->tree->root = A; }
input ::= START_SELECT select(A).                          { p->tree->root = A; }

select(R) ::= SELECT items(L) FROM STRING(F).              { R = expr_select_node(p, L, F, NULL); }
select(R) ::= SELECT items(L) FROM STRING(F) WHERE cond(A). { R = expr_select_node(p, L, F, A); }
items(R) ::= item(A).                                      { R = expr_new1(p, EXPR_N_SELECT, 0, A); }
items(R) ::= items(L) COMMA item(A).                       { R = expr_append(p, L, A); }
item(R) ::= STAR(T).                                       { R = expr_new(p, EXPR_N_ALL, 0, T); }
item(R) ::= value(A).                                      { R = expr_new1(p, EXPR_N_ITEM, 0, A); }
item(R) ::= value(A) AS alias(B).                          { R = expr_in_close(p, B, A); }
alias(R) ::= alias_name(A).                                { R = expr_new1(p, EXPR_N_ITEM, 0, A); }
alias(R) ::= alias(L) DOT alias_name(A).                   { R = expr_append(p, L, A); }
alias_name(R) ::= ID(T).                                   { R = expr_name(p, EXPR_N_KEY, T); }
alias_name(R) ::= QID(T).                                  { R = expr_name(p, EXPR_N_KEY, T); }

value(R) ::= cond(A).                                      { R = A; }
value(R) ::= LBRACE(T) RBRACE(E).                          { R = expr_span(expr_new(p, EXPR_N_OBJECT, 0, T), T, E); }
value(R) ::= pairs(A) RBRACE(E).                           { R = expr_span(A, E, E); }
value(R) ::= LB(T) RB(E).                                  { R = expr_span(expr_new(p, EXPR_N_ARRAY, 0, T), T, E); }
value(R) ::= values(A) RB(E).                              { R = expr_span(A, E, E); }
pairs(R) ::= LBRACE(T) STRING(K) COLON value(A).           { R = expr_append(p, expr_append(p, expr_new(p, EXPR_N_OBJECT, 0, T), expr_name(p, EXPR_N_KEY, K)), A); }
pairs(R) ::= pairs(L) COMMA STRING(K) COLON value(A).      { R = expr_append(p, expr_append(p, L, expr_name(p, EXPR_N_KEY, K)), A); }
values(R) ::= LB(T) value(A).                              { R = expr_append(p, expr_new(p, EXPR_N_ARRAY, 0, T), A); }
values(R) ::= values(L) COMMA value(A).                    { R = expr_append(p, L, A); }

cond(R) ::= cond(A) OR cond(B).                            { R = expr_logic(p, EXPR_N_OR, A, B); }
cond(R) ::= cond(A) AND cond(B).                           { R = expr_logic(p, EXPR_N_AND, A, B); }
cond(R) ::= NOT(T) cond(A).                                { R = expr_span(expr_new1(p, EXPR_N_NOT, 0, A), T, T); }
cond(R) ::= pred(A).                                       { R = A; }

pred(R) ::= sum(A).                                        { R = A; }
pred(R) ::= sum(A) EQ sum(B).                              { R = expr_new2(p, EXPR_N_COMPARE, EXPR_EQ, A, B); }
pred(R) ::= sum(A) NE sum(B).                              { R = expr_new2(p, EXPR_N_COMPARE, EXPR_NE, A, B); }
pred(R) ::= sum(A) LT sum(B).                              { R = expr_new2(p, EXPR_N_COMPARE, EXPR_LT, A, B); }
pred(R) ::= sum(A) LE sum(B).                              { R = expr_new2(p, EXPR_N_COMPARE, EXPR_LE, A, B); }
pred(R) ::= sum(A) GT sum(B).                              { R = expr_new2(p, EXPR_N_COMPARE, EXPR_GT, A, B); }
pred(R) ::= sum(A) GE sum(B).                              { R = expr_new2(p, EXPR_N_COMPARE, EXPR_GE, A, B); }
pred(R) ::= sum(A) IS not(N) NULL(T).                      { R = expr_span(expr_not(expr_new1(p, EXPR_N_IS, EXPR_IS_NULL, A), N), T, T); }
pred(R) ::= sum(A) IS not(N) TRUE(T).                      { R = expr_span(expr_not(expr_new1(p, EXPR_N_IS, EXPR_IS_TRUE, A), N), T, T); }
pred(R) ::= sum(A) IS not(N) FALSE(T).                     { R = expr_span(expr_not(expr_new1(p, EXPR_N_IS, EXPR_IS_FALSE, A), N), T, T); }
pred(R) ::= sum(A) IS not(N) UNKNOWN(T).                   { R = expr_span(expr_not(expr_new1(p, EXPR_N_IS, EXPR_IS_UNKNOWN, A), N), T, T); }
pred(R) ::= sum(A) IS not(N) DISTINCT FROM sum(B).         { R = expr_not(expr_new2(p, EXPR_N_DISTINCT, 0, A, B), N); }
pred(R) ::= sum(A) not(N) BETWEEN sum(B) AND sum(C).       { R = expr_not(expr_append(p, expr_new2(p, EXPR_N_BETWEEN, 0, A, B), C), N); }
pred(R) ::= sum(A) not(N) IN in_list(L) RP(T).             { R = expr_span(expr_not(expr_in_close(p, L, A), N), T, T); }
pred(R) ::= sum(A) not(N) IN path(B).                      { R = expr_not(expr_new2(p, EXPR_N_IN_LIST, 0, A, B), N); }
pred(R) ::= sum(A) not(N) like(K) sum(B).                  { R = expr_not(expr_new2(p, EXPR_N_LIKE, (unsigned)K, A, B), N); }
pred(R) ::= sum(A) not(N) like(K) sum(B) ESCAPE sum(C).    { R = expr_not(expr_append(p, expr_new2(p, EXPR_N_LIKE, (unsigned)K, A, B), C), N); }

%type not {bool}
not(R) ::= .                                               { R = false; }
not(R) ::= NOT.                                            { R = true; }
%type like {enum expr_like}
like(R) ::= LIKE.                                          { R = EXPR_LIKE; }
like(R) ::= ILIKE.                                         { R = EXPR_ILIKE; }
like(R) ::= GLOB.                                          { R = EXPR_GLOB; }

// The node of the list comes first; the value is put before the items when the list is complete.
in_list(R) ::= LP(T) cond(A).                              { R = expr_append(p, expr_new(p, EXPR_N_IN, 0, T), A); }
in_list(R) ::= in_list(L) COMMA cond(A).                   { R = expr_append(p, L, A); }

sum(R) ::= sum(A) PLUS sum(B).                             { R = expr_new2(p, EXPR_N_ARITH, EXPR_ADD, A, B); }
sum(R) ::= sum(A) MINUS sum(B).                            { R = expr_new2(p, EXPR_N_ARITH, EXPR_SUB, A, B); }
sum(R) ::= sum(A) CONCAT sum(B).                           { R = expr_new2(p, EXPR_N_ARITH, EXPR_CONCAT, A, B); }
sum(R) ::= sum(A) STAR sum(B).                             { R = expr_new2(p, EXPR_N_ARITH, EXPR_MUL, A, B); }
sum(R) ::= sum(A) SLASH sum(B).                            { R = expr_new2(p, EXPR_N_ARITH, EXPR_DIV, A, B); }
sum(R) ::= sum(A) PERCENT sum(B).                          { R = expr_new2(p, EXPR_N_ARITH, EXPR_MOD, A, B); }
sum(R) ::= MINUS(T) sum(A). [UNARY]                        { R = expr_negate(p, T, A); }
sum(R) ::= primary(A).                                     { R = A; }

primary(R) ::= LP(T) cond(A) RP(U).                        { R = expr_span(A, T, U); }
primary(R) ::= path(A).                                    { R = A; }
primary(R) ::= NULL(T).                                    { R = expr_constant(p, T, expr_null()); }
primary(R) ::= TRUE(T).                                    { R = expr_constant(p, T, expr_bool(true)); }
primary(R) ::= FALSE(T).                                   { R = expr_constant(p, T, expr_bool(false)); }
primary(R) ::= number(A).                                  { R = A; }
primary(R) ::= STRING(T).                                  { R = expr_string(p, T); }
primary(R) ::= TIME(T) STRING(U).                          { R = expr_time_literal(p, T, U); }
primary(R) ::= INTERVAL(T) STRING(U).                      { R = expr_interval_literal(p, T, U); }
primary(R) ::= CAST(T) LP cond(A) AS ID(U) RP(E).          { R = expr_span(expr_cast_node(p, A, U), T, E); }
primary(R) ::= EXTRACT(T) LP ID(U) FROM sum(A) RP(E).      { R = expr_span(expr_extract_node(p, U, A), T, E); }
primary(R) ::= EXTRACT(T) LP ID(U) FROM sum(A) AT STRING(Z) RP(E).
                                                           { R = expr_span(expr_append(p, expr_extract_node(p, U, A), expr_string(p, Z)), T, E); }
primary(R) ::= quant(K) LP(T) path(A) LB STAR RB RP(E).    { R = expr_span(expr_new1(p, EXPR_N_QUANT, (unsigned)K, A), T, E); }
primary(R) ::= quant(K) LP(T) path(A) LB STAR RB WHERE cond(B) RP(E).
                                                           { R = expr_span(expr_new2(p, EXPR_N_QUANT, (unsigned)K, A, B), T, E); }
primary(R) ::= case(A) END(T).                             { R = expr_span(A, T, T); }
primary(R) ::= case(A) ELSE cond(B) END(T).                { R = expr_case_else(p, expr_span(A, T, T), B); }
primary(R) ::= POLYGON(T) LP corners(A) RP RP(E).          { R = expr_span(A, T, E); }
primary(R) ::= ID(T) LP RP(E).                             { R = expr_span(expr_name(p, EXPR_N_CALL, T), T, E); }
primary(R) ::= args(A) RP(E).                              { R = expr_span(A, E, E); }

args(R) ::= ID(T) LP cond(A).                              { R = expr_append(p, expr_name(p, EXPR_N_CALL, T), A); }
args(R) ::= args(L) COMMA cond(A).                         { R = expr_append(p, L, A); }

number(R) ::= INTEGER(T).                                  { R = expr_number(p, T, false); }
number(R) ::= REAL(T).                                     { R = expr_number(p, T, false); }

%type quant {enum expr_quant}
quant(R) ::= EXISTS.                                       { R = EXPR_EXISTS; }
quant(R) ::= ANY.                                          { R = EXPR_ANY_OF; }
quant(R) ::= ALL.                                          { R = EXPR_ALL_OF; }

case(R) ::= CASE(T) WHEN cond(A) THEN cond(B).             { R = expr_append(p, expr_append(p, expr_new(p, EXPR_N_CASE, 0, T), A), B); }
case(R) ::= CASE(T) cond(O) WHEN cond(A) THEN cond(B).     { R = expr_append(p, expr_append(p, expr_append(p, expr_new(p, EXPR_N_CASE, EXPR_CASE_OPERAND, T), O), A), B); }
case(R) ::= case(L) WHEN cond(A) THEN cond(B).             { R = expr_append(p, expr_append(p, L, A), B); }

corners(R) ::= LP(T) corner(A) corner(B).                  { R = expr_append(p, expr_append(p, expr_new(p, EXPR_N_POLYGON, 0, T), A), B); }
corners(R) ::= corners(L) COMMA corner(A) corner(B).       { R = expr_append(p, expr_append(p, L, A), B); }
corner(R) ::= number(A).                                   { R = A; }
corner(R) ::= MINUS INTEGER(T).                            { R = expr_number(p, T, true); }
corner(R) ::= MINUS REAL(T).                               { R = expr_number(p, T, true); }

path(R) ::= ID(T).                                         { R = expr_name(p, EXPR_N_PATH, T); }
path(R) ::= QID(T).                                        { R = expr_name(p, EXPR_N_PATH, T); }
path(R) ::= path(A) DOT ID(T).                             { R = expr_append(p, A, expr_name(p, EXPR_N_KEY, T)); }
path(R) ::= path(A) DOT QID(T).                            { R = expr_append(p, A, expr_name(p, EXPR_N_KEY, T)); }
path(R) ::= path(A) LB STRING(T) RB(E).                    { R = expr_span(expr_append(p, A, expr_name(p, EXPR_N_KEY, T)), E, E); }
path(R) ::= path(A) LB INTEGER(T) RB(E).                   { R = expr_span(expr_append(p, A, expr_step_index(p, T, false)), E, E); }
path(R) ::= path(A) LB MINUS INTEGER(T) RB(E).             { R = expr_span(expr_append(p, A, expr_step_index(p, T, true)), E, E); }

%code {
// Would the parser go on with this token? Tried on a copy of its states, so that nothing is lost: lemon itself reduces
// before it sees that a token does not fit, and then no longer knows what would have.
static bool accepts(const yyParser *parser, int token)
{
    YYACTIONTYPE states[YYSTACKDEPTH + 1];
    size_t n = 0;
    for (const yyStackEntry *e = parser->yystack; e <= parser->yytos && n < YYSTACKDEPTH; e++) {
        states[n++] = e->stateno;
    }
    for (;;) {
        YYACTIONTYPE act = yy_find_shift_action((YYCODETYPE)token, states[n - 1]);
        if (act < YY_MIN_REDUCE) {
            return act != YY_ERROR_ACTION && act != YY_NO_ACTION;
        }
        unsigned rule = act - YY_MIN_REDUCE;
        n -= (size_t)-yyRuleInfoNRhs[rule];
        if (n >= YYSTACKDEPTH) {
            return true; // the stack is full: let the parser say so
        }
        states[n] = yy_find_reduce_action(states[n - 1], yyRuleInfoLhs[rule]);
        n++;
    }
}

static void find_expected(const yyParser *parser, struct expr_expected *ret)
{
    _Static_assert(YYNTOKEN <= EXPR_TOKENS_MAX, "more tokens than bits");
    for (int token = 0; token < YYNTOKEN; token++) {
        ret->token[token] = accepts(parser, token);
    }
}

// With `at_end` the words are the beginning of an expression, and what may follow them is wanted.
static void run(struct expr_parse *p, yyParser *parser, struct expr_expected *at_end, int *ret_last)
{
    struct slice text = p->tree->text;
    struct expr_scanner s = {.start = text.p, .p = text.p, .end = text.p + text.len};
    struct expr_token t = {0, 0};
    int token = p->select ? EXPR_TK_START_SELECT : EXPR_TK_START;
    ExprGrammar(parser, token, t, p);
    do {
        int last = token;
        token = expr_scan(&s, &t);
        if (token == 0 && at_end != NULL) {
            find_expected(parser, at_end);
            *ret_last = last;
        } else if (token == EXPR_TK_BAD) {
            expr_bad_word(p, t, &s);
        } else if (!accepts(parser, token)) {
            struct expr_expected expected = {{false}};
            find_expected(parser, &expected);
            expr_unexpected(p, token, t, &expected);
        } else {
            ExprGrammar(parser, token, t, p);
        }
        if (p->overflow) {
            expr_fail(p, ST_TOO_LARGE, t, "nested too deeply");
        }
    } while (token != 0 && p->status == ST_OK);
}

void expr_grammar_run(struct expr_parse *p)
{
    yyParser parser;
    ExprGrammarInit(&parser);
    run(p, &parser, NULL, NULL);
    ExprGrammarFinalize(&parser);
}

void expr_grammar_expect(struct expr_parse *p, struct expr_expected *ret, int *ret_last)
{
    yyParser parser;
    ExprGrammarInit(&parser);
    run(p, &parser, ret, ret_last);
    ExprGrammarFinalize(&parser);
}
}
