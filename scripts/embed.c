/* embed OUTPUT.c DEPENDENCIES FOLDER [FOLDER...]
 * Build tool: makes the table of embedded files (src/http/static.h) from the first FOLDER that
 * holds an index.html. Contents are compressed with brotli at its highest level. DEPENDENCIES
 * becomes a rule in Make's format naming every file and folder that was looked at. */
#include <brotli/encode.h>
#include <dirent.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILES_MAX      4096
#define PATH_BYTES_MAX 1024

struct entry {
    char path[PATH_BYTES_MAX]; /* below the folder, with a leading slash */
};

static struct entry files[FILES_MAX];
static size_t file_count;
static FILE *dependencies;

static void die(const char *what, const char *path)
{
    fprintf(stderr, "embed: %s: %s\n", what, path);
    exit(1);
}

static const char *content_type(const char *path)
{
    static const struct {
        const char *suffix, *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".mjs", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".json", "application/json"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".ico", "image/x-icon"},
        {".woff2", "font/woff2"},
        {".txt", "text/plain; charset=utf-8"},
        {".webmanifest", "application/manifest+json"},
        {".wasm", "application/wasm"},
    };
    size_t n = strlen(path);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        size_t suffix = strlen(types[i].suffix);
        if (n > suffix && strcmp(path + n - suffix, types[i].suffix) == 0)
            return types[i].type;
    }
    return "application/octet-stream";
}

static void collect(const char *root, const char *below)
{
    char path[PATH_BYTES_MAX * 2];
    snprintf(path, sizeof(path), "%s%s", root, below);
    fprintf(dependencies, " \\\n  %s", path);
    DIR *dir = opendir(path);
    if (!dir)
        die("cannot read", path);
    for (struct dirent *item; (item = readdir(dir));) {
        if (item->d_name[0] == '.')
            continue;
        char child[PATH_BYTES_MAX];
        if ((size_t)snprintf(child, sizeof(child), "%s/%s", below, item->d_name) >= sizeof(child))
            die("path too long", item->d_name);
        snprintf(path, sizeof(path), "%s%s", root, child);
        struct stat st;
        if (stat(path, &st) != 0)
            die("cannot read", path);
        if (S_ISDIR(st.st_mode)) {
            collect(root, child);
            continue;
        }
        if (file_count == FILES_MAX)
            die("too many files", root);
        fprintf(dependencies, " \\\n  %s", path);
        strcpy(files[file_count++].path, child);
    }
    closedir(dir);
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

static uint8_t *read_file(const char *path, size_t *n)
{
    FILE *file = fopen(path, "rb");
    struct stat st;
    if (!file || fstat(fileno(file), &st) != 0)
        die("cannot read", path);
    uint8_t *data = malloc((size_t)st.st_size + 1);
    if (!data || fread(data, 1, (size_t)st.st_size, file) != (size_t)st.st_size)
        die("cannot read", path);
    fclose(file);
    *n = (size_t)st.st_size;
    return data;
}

/* As a string literal: compilers read it many times faster than a list of numbers. */
static void write_literal(FILE *out, const uint8_t *p, size_t n)
{
    fputc('"', out);
    for (size_t i = 0; i < n; i++) {
        if (i && i % 64 == 0)
            fputs("\"\n\"", out);
        if (p[i] >= ' ' && p[i] < 127 && p[i] != '"' && p[i] != '\\' && p[i] != '?')
            fputc(p[i], out);
        else
            fprintf(out, "\\%03o", p[i]);
    }
    fputc('"', out);
}

/* Vite names what it bundles by its contents and puts it under /assets. */
static bool is_immutable(const char *path) { return strncmp(path, "/assets/", 8) == 0; }

static void write_entry(FILE *out, const char *root, const char *name)
{
    char path[PATH_BYTES_MAX * 2];
    snprintf(path, sizeof(path), "%s%s", root, name);
    size_t n;
    uint8_t *data = read_file(path, &n);
    size_t packed_n = BrotliEncoderMaxCompressedSize(n) + 64;
    uint8_t *packed = malloc(packed_n);
    if (!packed || !BrotliEncoderCompress(BROTLI_MAX_QUALITY, BROTLI_MAX_WINDOW_BITS,
                                          BROTLI_MODE_GENERIC, n, data, &packed_n, packed))
        die("cannot compress", path);
    uint8_t digest[EVP_MAX_MD_SIZE];
    if (!EVP_Digest(data, n, digest, NULL, EVP_sha256(), NULL))
        die("cannot hash", path);
    fprintf(out, "    {\n        STR_INIT(\"%s\"),\n        STR_INIT(\"%s\"),\n        {", name,
            content_type(name));
    write_literal(out, packed, packed_n);
    fprintf(out, ", %zu},\n        STR_INIT(\"\\\"", packed_n);
    for (int i = 0; i < 8; i++)
        fprintf(out, "%02x", digest[i]);
    fprintf(out, "\\\"\"),\n        %zu,\n        %s,\n    },\n", n,
            is_immutable(name) ? "true" : "false");
    free(packed);
    free(data);
}

/* Of the path itself where it is a folder, else of its parent. */
static int folder_length(const char *path)
{
    struct stat st;
    const char *slash = strrchr(path, '/');
    return stat(path, &st) == 0 || !slash ? (int)strlen(path) : (int)(slash - path);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        die("usage", "embed OUTPUT.c DEPENDENCIES FOLDER...");
    const char *root = NULL;
    char index[PATH_BYTES_MAX * 2];
    dependencies = fopen(argv[2], "w");
    if (!dependencies)
        die("cannot write", argv[2]);
    fprintf(dependencies, "%s:", argv[1]);
    for (int i = 3; i < argc && !root; i++) {
        struct stat st;
        snprintf(index, sizeof(index), "%s/index.html", argv[i]);
        if (stat(index, &st) == 0)
            root = argv[i];
        else /* it may appear: then the folder changes, or the one that it is to be made in */
            fprintf(dependencies, " \\\n  %.*s", folder_length(argv[i]), argv[i]);
    }
    if (!root)
        die("no index.html in", argv[argc - 1]);
    collect(root, "");
    qsort(files, file_count, sizeof(files[0]), compare);
    fputc('\n', dependencies);

    FILE *out = fopen(argv[1], "w");
    if (!out)
        die("cannot write", argv[1]);
    fputs("/* Made by scripts/embed.c. */\n#include \"http/static.h\"\n\n"
          "const struct static_file static_files[] = {\n",
          out);
    for (size_t i = 0; i < file_count; i++)
        write_entry(out, root, files[i].path);
    fprintf(out, "};\nconst size_t static_file_count = %zu;\n", file_count);
    if (fclose(out) != 0 || fclose(dependencies) != 0)
        die("cannot write", argv[1]);
    return 0;
}
