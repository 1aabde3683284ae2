#include "server/token_file.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIME_DIGITS 19 /* hold any number of seconds */
/* A line with its end; `operate` is the longest role. */
#define LINE_BYTES (2 * TOKEN_HASH_BYTES + 1 + TIME_DIGITS + 1 + TOKEN_NAME_MAX + 1 + 7 + 2 * (1 + TIME_DIGITS) + 1)
#define FILE_MAX   (TOKENS_MAX * LINE_BYTES)

bool token_name_is_good(struct slice name)
{
    return slice_is_name(name, TOKEN_NAME_MAX);
}

size_t token_list_find(const struct token_list *list, struct slice name)
{
    size_t i = 0;
    while (i < list->count && !slice_is(name, list->tokens[i].name)) {
        i++;
    }
    return i;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* Takes the text up to the next blank off the front; exactly one blank is between words. */
static struct slice cut_word(struct slice *rest)
{
    const char *blank = memchr(rest->at, ' ', rest->len);
    struct slice word = { rest->at, blank != NULL ? (size_t)(blank - rest->at) : rest->len };
    size_t used = word.len + (blank != NULL);
    *rest = (struct slice){ rest->at + used, rest->len - used };
    return word;
}

static bool read_time(struct slice word, int64_t *seconds)
{
    uint64_t number = 0;
    if (!slice_is(word, "-") && (!number_parse(word, TOKEN_TIME_MAX, &number) || number == 0)) {
        return false;
    }
    *seconds = (int64_t)number;
    return true;
}

/* What stands behind the name; in old files nothing does. Returns what is wrong with it, or NULL. */
static const char *read_rights(struct token *token, struct slice line)
{
    if (line.len == 0) {
        token->role = ROLE_ADMIN;
        token->role_unsaid = true;
        return NULL;
    }
    struct slice role = cut_word(&line), expires = cut_word(&line);
    if (!role_parse(role, &token->role)) {
        return "has no role (read, operate, admin) behind the name, which is 1 to 64 letters, digits, `.`, `_`, `-`";
    }
    if (!read_time(expires, &token->expires_s) || !read_time(line, &token->used_s)) {
        return "does not end in when it expires and when it was last used: two times, or `-`";
    }
    return NULL;
}

/* Adds what a line says. Returns what is wrong with it, or NULL. */
static const char *read_line(struct token_list *list, struct slice line)
{
    struct token token = { .created_s = 0 };
    uint64_t created_s;
    struct slice hash = cut_word(&line);
    struct slice created = cut_word(&line);
    struct slice behind = line, name = cut_word(&line);
    bool ends_there = line.len == 0 && behind.len > name.len; /* "a " is no old line */
    if (!hex_decode(hash, token.hash, TOKEN_HASH_BYTES)) {
        return "does not begin with a SHA-256 of 64 hexadecimal digits";
    }
    if (!number_parse(created, TOKEN_TIME_MAX, &created_s)) {
        return "has no time of creation behind the digest";
    }
    if (!token_name_is_good(name) || ends_there) {
        return "has no name of 1 to 64 letters, digits, `.`, `_`, `-` behind the time";
    }
    if (token_list_find(list, name) < list->count) {
        return "has a name that an earlier line has";
    }
    if (list->count == TOKENS_MAX) {
        return "is one more than there can be";
    }
    token.created_s = (int64_t)created_s;
    memcpy(token.name, name.at, name.len);
    const char *why = read_rights(&token, line);
    if (why == NULL) {
        list->tokens[list->count++] = token;
    }
    return why;
}

static enum status read_lines(const char *path, struct slice text, struct token_list *list, char *message, size_t size)
{
    for (unsigned number = 1; text.len > 0; number++) {
        const char *end = memchr(text.at, '\n', text.len);
        size_t n = end != NULL ? (size_t)(end - text.at) : text.len;
        const char *why =
            end == NULL ? "is cut off: it has no end of line" : read_line(list, (struct slice){ text.at, n });
        if (why != NULL) {
            snprintf(message, size,
                     "%s:%u: the line %s; restore the file from a copy, or take the line out "
                     "(whoever has its token needs a new one)",
                     path, number, why);
            return STATUS_INVALID;
        }
        text = (struct slice){ text.at + n + 1, text.len - n - 1 };
    }
    return STATUS_OK;
}

static enum status complain(const char *path, enum status status, const char *remedy, char *message, size_t size)
{
    snprintf(message, size, "%s cannot be read: %s; %s", path, status_text(status), remedy);
    return status;
}

enum status token_file_read(const char *path, struct token_list *list, char *message, size_t size)
{
    char *bytes = NULL;
    size_t n = 0;
    enum status status = file_read(path, FILE_MAX, &bytes, &n);
    if (status == STATUS_NOT_FOUND) {
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        return complain(path, status,
                        status == STATUS_TOO_LONG ? "restore the file from a copy, or remove it"
                                                  : "it must be a file that the server's user may read",
                        message, size);
    }
    status = read_lines(path, (struct slice){ bytes, n }, list, message, size);
    free(bytes);
    return status;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static void print_time(int64_t seconds, char *text, size_t size)
{
    snprintf(text, size, seconds > 0 ? "%" PRId64 : "-", seconds);
}

static enum status print_list(const struct token_list *list, int descriptor)
{
    FILE *file = fdopen(descriptor, "w");
    if (file == NULL) {
        close(descriptor);
        return STATUS_NO_MEMORY;
    }
    bool good = true;
    for (size_t i = 0; i < list->count; i++) {
        const struct token *token = &list->tokens[i];
        char hash[2 * TOKEN_HASH_BYTES + 1], expires[NUMBER_TEXT_SIZE + 1], used[NUMBER_TEXT_SIZE + 1];
        hex_encode(token->hash, TOKEN_HASH_BYTES, hash);
        print_time(token->expires_s, expires, sizeof expires);
        print_time(token->used_s, used, sizeof used);
        good = fprintf(file, "%s %" PRId64 " %s %s %s %s\n", hash, token->created_s, token->name,
                       role_word(token->role), expires, used) > 0 &&
               good;
    }
    good = fflush(file) == 0 && good && fsync(fileno(file)) == 0;
    enum status status = good ? STATUS_OK : status_from_errno(errno);
    if (fclose(file) != 0 && status == STATUS_OK) {
        status = status_from_errno(errno);
    }
    return status;
}

enum status token_file_write(const struct token_list *list, const char *path, bool *replaced)
{
    char *temporary;
    *replaced = false;
    if (asprintf(&temporary, "%s.tmp", path) < 0) {
        return STATUS_NO_MEMORY;
    }
    (void)unlink(temporary); /* left by a crash; a link in its place must not be followed */
    int descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    enum status status = descriptor < 0 ? status_from_errno(errno) : print_list(list, descriptor);
    if (status == STATUS_OK && rename(temporary, path) != 0) {
        status = status_from_errno(errno);
    }
    if (status == STATUS_OK) {
        *replaced = true;
        status = file_sync_folder(path);
    } else {
        (void)unlink(temporary);
    }
    free(temporary);
    return status;
}
