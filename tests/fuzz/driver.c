/* Replays a fuzz target's corpus without libFuzzer: every file of the given folders (or files) is
 * one input, and so are its prefixes up to some length, which is where parsers break. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PREFIX_BYTES_MAX 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* A copy of exactly n bytes, so that a checking build sees a read past the end. */
static void run_input(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy)
        exit(1);
    memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat st;
    if (!file || fstat(fileno(file), &st) != 0) {
        perror(path);
        exit(1);
    }
    size_t n = (size_t)st.st_size;
    uint8_t *data = malloc(n ? n : 1);
    if (!data || fread(data, 1, n, file) != n) {
        perror(path);
        exit(1);
    }
    fclose(file);
    for (size_t cut = 0; cut < n && cut < PREFIX_BYTES_MAX; cut++)
        run_input(data, cut);
    run_input(data, n);
    free(data);
    return 1;
}

static int run_path(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return run_file(path);
    DIR *dir = opendir(path);
    if (!dir) {
        perror(path);
        exit(1);
    }
    int count = 0;
    for (struct dirent *item; (item = readdir(dir));) {
        char child[4096];
        snprintf(child, sizeof(child), "%s/%s", path, item->d_name);
        if (item->d_name[0] != '.')
            count += run_file(child);
    }
    closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++)
        count += run_path(argv[i]);
    printf("%d inputs\n", count);
    return count ? 0 : 1;
}
