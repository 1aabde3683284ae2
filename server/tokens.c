/* The list in memory, and its file.
 *
 * What makes it hard is that memory and file must agree whatever fails: a change is made in a copy, the copy is written
 * by a worker thread, and only when it is on disk does it become the list. The thread sees nothing but its change.
 */
#include "server/tokens.h"

#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define HASH_BYTES   32
#define RANDOM_BYTES 32
/* A line with its end: 19 digits hold any number of seconds. */
#define LINE_BYTES  (2 * HASH_BYTES + 1 + 19 + 1 + TOKEN_NAME_MAX + 1)
#define FILE_MAX    (TOKENS_MAX * LINE_BYTES)
#define CREATED_MAX 253402300799 /* the end of the year 9999, as far as its text form goes */

struct token {
    uint8_t hash[HASH_BYTES];
    int64_t created_s;
    char name[TOKEN_NAME_MAX + 1];
};

struct list {
    size_t count;
    struct token tokens[TOKENS_MAX];
};

/* On its way to disk. The worker thread's from uv_queue_work to on_written. */
struct change {
    uv_work_t work;
    struct tokens *tokens; /* NULL: freed meanwhile; the loop's, the thread does not look */
    char *path;
    struct list before, after;
    enum status status;
    bool makes;
    char text[TOKEN_TEXT_SIZE];
    tokens_done_fn on_done;
    void *owner;
};

struct tokens {
    char *path;
    struct list list;
    struct change *change; /* under way; NULL = none */
};

static bool hash_text(struct slice text, uint8_t hash[HASH_BYTES])
{
    return EVP_Digest(text.at, text.len, hash, NULL, EVP_sha256(), NULL) == 1;
}

static bool is_name(struct slice name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (name.at == NULL || name.len == 0 || name.len > TOKEN_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        if (memchr(letters, name.at[i], sizeof letters - 1) == NULL) {
            return false;
        }
    }
    return true;
}

static size_t find_name(const struct list *list, struct slice name)
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

/* Adds what a line says. Returns what is wrong with it, or NULL. */
static const char *read_line(struct list *list, struct slice line)
{
    struct token token = { .created_s = 0 };
    uint64_t created_s;
    struct slice hash = cut_word(&line);
    struct slice created = cut_word(&line);
    if (!hex_decode(hash, token.hash, HASH_BYTES)) {
        return "does not begin with a SHA-256 of 64 hexadecimal digits";
    }
    if (!number_parse(created, CREATED_MAX, &created_s)) {
        return "has no time of creation behind the digest";
    }
    if (!is_name(line)) {
        return "does not end in a name of 1 to 64 letters, digits, `.`, `_`, `-`";
    }
    if (find_name(list, line) < list->count) {
        return "has a name that an earlier line has";
    }
    if (list->count == TOKENS_MAX) {
        return "is one more than there can be";
    }
    token.created_s = (int64_t)created_s;
    memcpy(token.name, line.at, line.len);
    list->tokens[list->count++] = token;
    return NULL;
}

static enum status read_lines(const char *path, struct slice text, struct list *list, char *message, size_t size)
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

/* The whole file, at most FILE_MAX + 1 bytes of it. Not waiting for the writer of a pipe. */
static enum status read_file(const char *path, char *bytes, size_t *used)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        return status_from_errno(errno);
    }
    struct stat stat;
    enum status status = STATUS_OK;
    if (fstat(descriptor, &stat) != 0 || !S_ISREG(stat.st_mode)) {
        status = STATUS_INVALID;
    }
    *used = 0;
    while (status == STATUS_OK && *used <= FILE_MAX) {
        ssize_t n = read(descriptor, bytes + *used, FILE_MAX + 1 - *used);
        if (n == 0) {
            break;
        }
        if (n > 0) {
            *used += (size_t)n;
        } else if (errno != EINTR) {
            status = status_from_errno(errno);
        }
    }
    close(descriptor);
    return status;
}

static enum status read_list(const char *path, struct list *list, char *message, size_t size)
{
    char *bytes = malloc(FILE_MAX + 1);
    size_t used = 0;
    if (bytes == NULL) {
        return complain(path, STATUS_NO_MEMORY, "close other programs", message, size);
    }
    enum status status = read_file(path, bytes, &used);
    if (status == STATUS_NOT_FOUND) {
        status = STATUS_OK;
    } else if (status != STATUS_OK) {
        complain(path, status, "it must be a file that the server's user may read", message, size);
    } else if (used > FILE_MAX) {
        status = complain(path, STATUS_TOO_LONG, "restore the file from a copy, or remove it", message, size);
    } else {
        status = read_lines(path, (struct slice){ bytes, used }, list, message, size);
    }
    free(bytes);
    return status;
}

enum status tokens_load(const char *path, struct tokens **tokens, char *message, size_t size)
{
    struct tokens *loaded = calloc(1, sizeof *loaded);
    char *copy = strdup(path);
    enum status status = loaded == NULL || copy == NULL
                             ? complain(path, STATUS_NO_MEMORY, "close other programs", message, size)
                             : read_list(path, &loaded->list, message, size);
    if (status != STATUS_OK) {
        free(copy);
        free(loaded);
        return status;
    }
    loaded->path = copy;
    *tokens = loaded;
    return STATUS_OK;
}

void tokens_free(struct tokens *tokens)
{
    if (tokens == NULL) {
        return;
    }
    if (tokens->change != NULL) {
        tokens->change->tokens = NULL;
    }
    free(tokens->path);
    free(tokens);
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

bool tokens_admit(const struct tokens *tokens, struct slice token)
{
    uint8_t hash[HASH_BYTES];
    if (token.at == NULL || !hash_text(token, hash)) {
        return false;
    }
    bool admitted = false;
    for (size_t i = 0; i < tokens->list.count; i++) { /* to the end: how long it takes must not say what was found */
        admitted |= CRYPTO_memcmp(hash, tokens->list.tokens[i].hash, HASH_BYTES) == 0;
    }
    return admitted;
}

size_t tokens_count(const struct tokens *tokens)
{
    return tokens->list.count;
}

bool tokens_at(const struct tokens *tokens, size_t i, struct token_view *view)
{
    if (i >= tokens->list.count) {
        return false;
    }
    *view = (struct token_view){ tokens->list.tokens[i].name, tokens->list.tokens[i].created_s };
    return true;
}

/* --- changing ----------------------------------------------------------------------------------------------------- */

static enum status print_list(const struct list *list, int descriptor)
{
    FILE *file = fdopen(descriptor, "w");
    if (file == NULL) {
        close(descriptor);
        return STATUS_NO_MEMORY;
    }
    bool good = true;
    for (size_t i = 0; i < list->count; i++) {
        const struct token *token = &list->tokens[i];
        char hash[2 * HASH_BYTES + 1];
        hex_encode(token->hash, HASH_BYTES, hash);
        good = fprintf(file, "%s %" PRId64 " %s\n", hash, token->created_s, token->name) > 0 && good;
    }
    good = fflush(file) == 0 && good && fsync(fileno(file)) == 0;
    enum status status = good ? STATUS_OK : status_from_errno(errno);
    if (fclose(file) != 0 && status == STATUS_OK) {
        status = status_from_errno(errno);
    }
    return status;
}

/* Writes `list` in the file's place. `*replaced`: the file has been exchanged, even where the rest failed. */
static enum status write_list(const struct list *list, const char *path, bool *replaced)
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

static void on_write(uv_work_t *work)
{
    struct change *change = work->data;
    bool replaced;
    change->status = write_list(&change->after, change->path, &replaced);
    if (change->status != STATUS_OK && replaced) { /* nobody knows whether it lasts, so it must not stay */
        (void)write_list(&change->before, change->path, &replaced);
    }
}

static void change_free(struct change *change)
{
    if (change != NULL) {
        OPENSSL_cleanse(change->text, sizeof change->text);
        free(change->path);
        free(change);
    }
}

static void on_written(uv_work_t *work, int error)
{
    struct change *change = work->data;
    struct tokens *tokens = change->tokens;
    if (tokens != NULL) {
        assert(tokens->change == change);
        tokens->change = NULL;
        enum status status = error != 0 ? STATUS_IO : change->status;
        if (status == STATUS_OK) {
            tokens->list = change->after;
        }
        change->on_done(change->owner, status, change->makes ? change->text : NULL);
    }
    change_free(change);
}

static struct change *change_new(struct tokens *tokens, tokens_done_fn on_done, void *owner)
{
    struct change *change = calloc(1, sizeof *change);
    char *path = strdup(tokens->path);
    if (change == NULL || path == NULL) {
        free(change);
        free(path);
        return NULL;
    }
    *change =
        (struct change){ .tokens = tokens, .path = path, .status = STATUS_IO, .on_done = on_done, .owner = owner };
    change->work.data = change;
    change->before = change->after = tokens->list;
    return change;
}

static enum status change_start(struct change *change, uv_loop_t *loop)
{
    if (uv_queue_work(loop, &change->work, on_write, on_written) != 0) {
        change_free(change);
        return STATUS_IO;
    }
    change->tokens->change = change;
    return STATUS_OK;
}

/* The prefix and 32 random bytes as base64url, which has 43 characters for them and no `=`. */
static bool draw_text(char text[TOKEN_TEXT_SIZE])
{
    uint8_t bytes[RANDOM_BYTES];
    char base64[4 * ((RANDOM_BYTES + 2) / 3) + 1];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
        return false;
    }
    int n = EVP_EncodeBlock((unsigned char *)base64, bytes, RANDOM_BYTES);
    assert(n == (int)sizeof base64 - 1 && base64[n - 1] == '=');
    base64[n - 1] = '\0';
    for (char *c = base64; *c != '\0'; c++) {
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
    }
    int used = snprintf(text, TOKEN_TEXT_SIZE, "%s%s", TOKEN_PREFIX, base64);
    assert(used == TOKEN_TEXT_SIZE - 1);
    OPENSSL_cleanse(bytes, sizeof bytes);
    OPENSSL_cleanse(base64, sizeof base64);
    return true;
}

enum status tokens_make(struct tokens *tokens, uv_loop_t *loop, struct slice name, int64_t now_s,
                        tokens_done_fn on_done, void *owner)
{
    assert(now_s >= 0);
    if (!is_name(name)) {
        return STATUS_INVALID;
    }
    if (tokens->change != NULL || find_name(&tokens->list, name) < tokens->list.count) {
        return STATUS_BUSY;
    }
    if (tokens->list.count == TOKENS_MAX) {
        return STATUS_LIMIT;
    }
    struct change *change = change_new(tokens, on_done, owner);
    if (change == NULL) {
        return STATUS_NO_MEMORY;
    }
    struct token *token = &change->after.tokens[change->after.count++];
    *token = (struct token){ .created_s = now_s };
    memcpy(token->name, name.at, name.len);
    if (!draw_text(change->text) || !hash_text(slice_of(change->text), token->hash)) {
        change_free(change);
        return STATUS_IO;
    }
    change->makes = true;
    return change_start(change, loop);
}

enum status tokens_remove(struct tokens *tokens, uv_loop_t *loop, struct slice name, tokens_done_fn on_done,
                          void *owner)
{
    size_t i = find_name(&tokens->list, name);
    if (i == tokens->list.count) {
        return STATUS_NOT_FOUND;
    }
    if (tokens->change != NULL) {
        return STATUS_BUSY;
    }
    struct change *change = change_new(tokens, on_done, owner);
    if (change == NULL) {
        return STATUS_NO_MEMORY;
    }
    struct list *after = &change->after;
    after->count--;
    memmove(&after->tokens[i], &after->tokens[i + 1], (after->count - i) * sizeof after->tokens[0]);
    return change_start(change, loop);
}
