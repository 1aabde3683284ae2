/* {"id","version","url","md5","size","mode","window_s"}: one JSON object; what is missing but for the url is allowed to
 * be, as a sketch of a few lines would read it. */
#include "tests/sim/command.h"

#include "base/text.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <uthash.h>

struct page {
    struct command command;
    UT_hash_handle hh;
    size_t n;
    char payload[];
};

struct command_book {
    struct page *pages;
};

struct command_book *command_book_new(void)
{
    struct command_book *book = calloc(1, sizeof *book);
    assert(book != NULL);
    return book;
}

void command_book_free(struct command_book *book)
{
    struct page *page, *next;
    HASH_ITER(hh, book->pages, page, next)
    {
        HASH_DEL(book->pages, page);
        free(page);
    }
    free(book);
}

/* A member that is text and fits; missing is "". */
static bool read_text(const json_t *object, const char *key, char *to, size_t size)
{
    const json_t *member = json_object_get(object, key);
    to[0] = '\0';
    return member == NULL || (json_is_string(member) && slice_copy(slice_of(json_string_value(member)), to, size));
}

static bool read_number(const json_t *object, const char *key, double max, double *to)
{
    const json_t *member = json_object_get(object, key);
    *to = json_number_value(member);
    return member == NULL || (json_is_number(member) && *to >= 0 && *to <= max);
}

static bool read_object(const json_t *object, struct command *command)
{
    char url[600], mode[16];
    double bytes, window_s;
    if (!read_text(object, "id", command->id, sizeof command->id) ||
        !read_text(object, "version", command->version, sizeof command->version) ||
        !read_text(object, "md5", command->md5, sizeof command->md5) || !read_text(object, "url", url, sizeof url) ||
        !read_text(object, "mode", mode, sizeof mode) || !read_number(object, "size", 1e12, &bytes) ||
        !read_number(object, "window_s", 1e7, &window_s)) {
        return false;
    }
    command->fs = strcmp(mode, "fs") == 0;
    command->bytes = (uint64_t)bytes;
    command->window_ms = (uint64_t)(window_s * 1000);
    return (mode[0] == '\0' || command->fs || strcmp(mode, "sketch") == 0) && url_parse(url, "http", 80, &command->url);
}

const struct command *command_read(struct command_book *book, const void *payload, size_t n)
{
    struct page *page;
    if (n == 0) { /* how a retained command is taken back */
        static const struct command nothing;
        return &nothing;
    }
    HASH_FIND(hh, book->pages, payload, n, page);
    if (page == NULL) {
        page = calloc(1, sizeof *page + n);
        assert(page != NULL);
        page->n = n;
        memcpy(page->payload, payload, n);
        HASH_ADD(hh, book->pages, payload, n, page);
        json_t *object = json_loadb(payload, n, JSON_REJECT_DUPLICATES, NULL);
        page->command.valid = json_is_object(object) && read_object(object, &page->command);
        json_decref(object);
    }
    return &page->command;
}
