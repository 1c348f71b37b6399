/* Output of the client commands: tables, objects, JSON. See client.h. */
#include "app/client.h"
#include <stdio.h>
#include <stdlib.h>

#define CELL_BYTES_MAX 256

/* Appends a value as people read it: arrays joined by commas, objects as name=value. */
static void cell_append(yyjson_val *value, char *out, size_t *n)
{
    size_t left = CELL_BYTES_MAX - *n;
    int added = 0;
    if (yyjson_is_arr(value) || yyjson_is_obj(value)) {
        size_t i, count;
        yyjson_val *key, *item;
        if (yyjson_is_arr(value)) {
            yyjson_arr_foreach(value, i, count, item)
            {
                if (i && *n + 1 < CELL_BYTES_MAX)
                    out[(*n)++] = ',';
                cell_append(item, out, n);
            }
        } else {
            yyjson_obj_foreach(value, i, count, key, item)
            {
                added = snprintf(out + *n, CELL_BYTES_MAX - *n, "%s%s=", i ? " " : "",
                                 yyjson_get_str(key));
                *n = MIN(*n + (size_t)added, CELL_BYTES_MAX - 1);
                cell_append(item, out, n);
            }
        }
        return;
    }
    if (yyjson_is_str(value))
        added = snprintf(out + *n, left, "%s", yyjson_get_str(value));
    else if (yyjson_is_bool(value))
        added = snprintf(out + *n, left, "%s", yyjson_get_bool(value) ? "yes" : "no");
    else if (yyjson_is_real(value))
        added = snprintf(out + *n, left, "%.1f", yyjson_get_real(value));
    else if (yyjson_is_int(value))
        added = snprintf(out + *n, left, "%lld", (long long)yyjson_get_sint(value));
    else
        added = snprintf(out + *n, left, "-");
    *n = MIN(*n + (size_t)added, CELL_BYTES_MAX - 1);
}

static yyjson_val *find_path(yyjson_val *value, const char *path)
{
    while (value && *path) {
        size_t n = strcspn(path, ".");
        value = yyjson_obj_getn(value, path, n);
        path += n + (path[n] == '.');
    }
    return value;
}

static size_t format_cell(yyjson_val *item, const struct column *column, char out[CELL_BYTES_MAX])
{
    size_t n = 0;
    cell_append(find_path(item, column->path), out, &n);
    if (n == 0)
        out[n++] = '-';
    out[n] = '\0';
    return n;
}

/* Characters, not bytes: continuation bytes take no room. */
static int text_width(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += (*text & 0xC0) != 0x80;
    return width;
}

static void print_cell(const char *text, int width, bool right, bool last)
{
    int pad = width - text_width(text);
    if (right)
        printf("%*s%s", pad, "", text);
    else
        printf("%s%*s", text, last ? 0 : pad, "");
    fputs(last ? "\n" : "  ", stdout);
}

void print_table(yyjson_val *items, const struct column *columns, size_t count, const char *empty)
{
    char cell[CELL_BYTES_MAX];
    int *widths = xcalloc(count, sizeof(*widths));
    size_t i, rows;
    yyjson_val *item;
    for (size_t c = 0; c < count; c++) {
        widths[c] = text_width(columns[c].title);
        yyjson_arr_foreach(items, i, rows, item)
        {
            format_cell(item, &columns[c], cell);
            widths[c] = MAX(widths[c], text_width(cell));
        }
    }
    if (yyjson_arr_size(items) == 0)
        printf("%s\n", empty);
    else
        for (size_t c = 0; c < count; c++)
            print_cell(columns[c].title, widths[c], columns[c].right, c + 1 == count);
    yyjson_arr_foreach(items, i, rows, item)
    {
        for (size_t c = 0; c < count; c++) {
            format_cell(item, &columns[c], cell);
            print_cell(cell, widths[c], columns[c].right, c + 1 == count);
        }
    }
    free(widths);
}

void print_json(yyjson_val *value)
{
    char *text = yyjson_val_write(value, YYJSON_WRITE_PRETTY_TWO_SPACES, NULL);
    puts(text ? text : "null");
    free(text);
}

void print_object(yyjson_val *object)
{
    size_t i, count;
    yyjson_val *key, *value;
    int width = 0;
    yyjson_obj_foreach(object, i, count, key, value) width = MAX(width, (int)yyjson_get_len(key));
    yyjson_obj_foreach(object, i, count, key, value)
    {
        if (yyjson_is_ctn(value)) {
            char *text = yyjson_val_write(value, 0, NULL);
            printf("%-*s  %s\n", width, yyjson_get_str(key), text ? text : "");
            free(text);
        } else {
            char cell[CELL_BYTES_MAX];
            format_cell(value, &(struct column){.path = ""}, cell);
            printf("%-*s  %s\n", width, yyjson_get_str(key),
                   yyjson_is_str(value) ? yyjson_get_str(value) : cell);
        }
    }
}
