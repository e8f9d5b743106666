// Who the clients are: ids, user names and passwords from a file or from patterns.
#include <stdlib.h>
#include <string.h>

#include "load.h"

bool names_expand(const char *pattern, unsigned index, char *dst, size_t size)
{
    size_t n = 0;
    for (const char *p = pattern; *p != '\0'; p++) {
        char number[16];
        int digits = 0;
        if (p[0] == '%' && p[1] == 'c') {
            digits = snprintf(number, sizeof(number), "%u", index);
            p++;
        } else if (p[0] == '%' && p[1] >= '1' && p[1] <= '9' && p[2] == 'c') {
            digits = snprintf(number, sizeof(number), "%0*u", p[1] - '0', index);
            p += 2;
        }
        size_t add = digits > 0 ? (size_t)digits : 1;
        if (n + add >= size) {
            return false;
        }
        memcpy(dst + n, digits > 0 ? number : p, add);
        n += add;
    }
    dst[n] = '\0';
    return true;
}

static void fail(const char *what, const char *problem)
{
    fprintf(stderr, "%s: %s\n", what, problem);
    exit(2);
}

// NULL for no pattern.
static char *made(const char *pattern, unsigned index)
{
    char text[NAME_MAX_BYTES];
    if (pattern == NULL) {
        return NULL;
    }
    if (!names_expand(pattern, index, text, sizeof(text))) {
        fail(pattern, "too long");
    }
    char *copy = strdup(text);
    if (copy == NULL) {
        fail(pattern, "no memory");
    }
    return copy;
}

static void by_pattern(const struct options *o, struct client *c)
{
    char id[NAME_MAX_BYTES];
    snprintf(id, sizeof(id), "%s%s%%c", o->prefix, c->subscriber ? "s" : "");
    c->id = made(c->subscriber || o->id == NULL ? id : o->id, c->index);
    c->user = made(o->user, c->index);
    c->password = made(o->password, c->index);
}

// A line is "ID PASSWORD"; the id is the user name too, and "-" no password.
static void by_file(struct load *l)
{
    FILE *f = fopen(l->opt.users, "r");
    if (f == NULL) {
        fail(l->opt.users, "cannot be opened");
    }
    // The publishers have the first lines, the subscribers what follows.
    for (unsigned i = 0; i < l->total; i++) {
        char id[NAME_MAX_BYTES], password[NAME_MAX_BYTES];
        struct client *c = &l->clients[(l->opt.subscribers + i) % l->total];
        if (fscanf(f, "%255s %255s", id, password) != 2) {
            fail(l->opt.users, "fewer lines than clients");
        }
        bool secret = strcmp(password, "-") != 0;
        c->id = strdup(id);
        c->user = secret ? strdup(id) : NULL;
        c->password = secret ? strdup(password) : NULL;
        if (c->id == NULL || (secret && (c->user == NULL || c->password == NULL))) {
            fail(id, "no memory");
        }
    }
    fclose(f);
}

void names_give(struct load *l)
{
    for (unsigned i = 0; i < l->total; i++) {
        struct client *c = &l->clients[i];
        c->subscriber = i < l->opt.subscribers;
        c->index = c->subscriber ? i : i - l->opt.subscribers;
        if (l->opt.users == NULL) {
            by_pattern(&l->opt, c);
        }
    }
    if (l->opt.users != NULL) {
        by_file(l);
    }
}
