// Runs a fuzz target over the files of its corpus folder, as an ordinary test (no fuzzer needed).
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    static uint8_t data[1 << 20];
    size_t n = fread(data, 1, sizeof(data), f);
    fclose(f);
    // An exact-size copy, so that the address sanitizer sees a read one past the end.
    uint8_t *copy = malloc(n > 0 ? n : 1);
    if (copy == NULL) {
        return 1;
    }
    for (size_t i = 0; i < n; i++) {
        copy[i] = data[i];
    }
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
        return 2;
    }
    DIR *d = opendir(argv[1]);
    if (d == NULL) {
        perror(argv[1]);
        return 1;
    }
    unsigned n = 0;
    int bad = 0;
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (e->d_name[0] == '.') {
            continue;
        }
        char path[4096];
        snprintf(path, sizeof(path), "%s/%s", argv[1], e->d_name);
        bad |= replay_file(path);
        n++;
    }
    closedir(d);
    if (n == 0) {
        fprintf(stderr, "%s: no corpus\n", argv[1]);
        return 1;
    }
    printf("%u inputs replayed\n", n);
    return bad;
}
