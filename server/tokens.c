/* The list in memory, and its file.
 *
 * What makes it hard is that memory and file must agree whatever fails: a change is made in a copy, the copy is written
 * by a worker thread, and only when it is on disk does it become the list. The thread sees nothing but its change.
 */
#include "server/tokens.h"

#include "server/token_file.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define RANDOM_BYTES 32
#define USED_STEP_S  3600 /* between two writings of when a token was last used */
#define SAVE_REST_S  600  /* after one, also one that failed */

/* On its way to disk. The worker thread's from uv_queue_work to on_written. */
struct change {
    uv_work_t work;
    struct tokens *tokens; /* NULL: freed meanwhile; the loop's, the thread does not look */
    char *path;
    struct token_list before, after;
    enum status status;
    bool makes;
    char text[TOKEN_TEXT_SIZE];
    tokens_done_fn on_done;
    void *owner;
};

struct tokens {
    char *path;
    struct token_list list;
    int64_t used_written_s[TOKENS_MAX]; /* of the list's tokens: `used_s` as the file has it */
    int64_t saved_s;                    /* when tokens_save_used last began to write */
    struct change *change;              /* under way; NULL = none */
};

static bool hash_text(struct slice text, uint8_t hash[TOKEN_HASH_BYTES])
{
    return EVP_Digest(text.at, text.len, hash, NULL, EVP_sha256(), NULL) == 1;
}

static void note_written(struct tokens *tokens)
{
    for (size_t i = 0; i < tokens->list.count; i++) {
        tokens->used_written_s[i] = tokens->list.tokens[i].used_s;
    }
}

enum status tokens_load(const char *path, struct tokens **tokens, char *message, size_t size)
{
    struct tokens *loaded = calloc(1, sizeof *loaded);
    char *copy = strdup(path);
    enum status status = STATUS_NO_MEMORY;
    if (loaded != NULL && copy != NULL) {
        status = token_file_read(path, &loaded->list, message, size);
    } else {
        snprintf(message, size, "%s cannot be read: %s; close other programs", path, status_text(status));
    }
    if (status != STATUS_OK) {
        free(copy);
        free(loaded);
        return status;
    }
    loaded->path = copy;
    note_written(loaded);
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

static struct token_view view_of(const struct token *token)
{
    return (struct token_view){ token->name,      token->role,   token->role_unsaid, token->created_s,
                                token->expires_s, token->used_s, token->revoked };
}

enum tokens_found tokens_admit(struct tokens *tokens, struct slice text, int64_t now_s, struct token_view *view)
{
    uint8_t hash[TOKEN_HASH_BYTES];
    struct token *found = NULL;
    if (text.at == NULL || !hash_text(text, hash)) {
        return TOKENS_UNKNOWN;
    }
    for (size_t i = 0; i < tokens->list.count; i++) { /* to the end: how long it takes must not say what was found */
        struct token *token = &tokens->list.tokens[i];
        found = CRYPTO_memcmp(hash, token->hash, TOKEN_HASH_BYTES) == 0 ? token : found;
    }
    if (found == NULL || found->revoked) {
        return TOKENS_UNKNOWN;
    }
    bool expired = found->expires_s != 0 && now_s >= found->expires_s;
    found->used_s = expired ? found->used_s : now_s;
    *view = view_of(found);
    return expired ? TOKENS_EXPIRED : TOKENS_GOOD;
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
    *view = view_of(&tokens->list.tokens[i]);
    return true;
}

/* --- changing ----------------------------------------------------------------------------------------------------- */

static void on_write(uv_work_t *work)
{
    struct change *change = work->data;
    bool replaced;
    change->status = token_file_write(&change->after, change->path, &replaced);
    if (change->status != STATUS_OK && replaced) { /* nobody knows whether it lasts, so it must not stay */
        (void)token_file_write(&change->before, change->path, &replaced);
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

/* What is on the disk becomes the list; tokens may have been used meanwhile, or revoked. */
static void adopt(struct tokens *tokens, const struct token_list *after)
{
    struct token_list before = tokens->list;
    tokens->list = *after;
    note_written(tokens);
    for (size_t i = 0; i < before.count; i++) {
        size_t j = token_list_find(&tokens->list, slice_of(before.tokens[i].name));
        if (j < tokens->list.count) {
            tokens->list.tokens[j].used_s = before.tokens[i].used_s;
            tokens->list.tokens[j].revoked = before.tokens[i].revoked;
        }
    }
}

static void leave_out_revoked(struct token_list *list)
{
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (!list->tokens[i].revoked) {
            list->tokens[kept++] = list->tokens[i];
        }
    }
    list->count = kept;
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
    change->before = tokens->list;
    leave_out_revoked(&change->before);
    change->after = change->before;
    return change;
}

static void on_written(uv_work_t *work, int error);

static enum status change_start(struct change *change, uv_loop_t *loop)
{
    if (uv_queue_work(loop, &change->work, on_write, on_written) != 0) {
        change_free(change);
        return STATUS_IO;
    }
    change->tokens->change = change;
    return STATUS_OK;
}

/* A token that was revoked while another change was on its way, and came to the disk with that, does not wait for the
 * next: a restart would revive it. */
static void write_revoked(struct tokens *tokens, uv_loop_t *loop)
{
    bool left = false;
    for (size_t i = 0; i < tokens->list.count; i++) {
        left = left || tokens->list.tokens[i].revoked;
    }
    struct change *change = left && tokens->change == NULL ? change_new(tokens, NULL, NULL) : NULL;
    if (change != NULL) {
        (void)change_start(change, loop);
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
            adopt(tokens, &change->after);
        }
        if (change->on_done != NULL) {
            change->on_done(change->owner, status, change->makes ? change->text : NULL);
        }
        if (status == STATUS_OK) { /* else the disk fails: tokens_save_used tries again */
            write_revoked(tokens, work->loop);
        }
    }
    change_free(change);
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

enum status tokens_make(struct tokens *tokens, uv_loop_t *loop, const struct token_order *order, int64_t now_s,
                        tokens_done_fn on_done, void *owner)
{
    struct slice name = order->name;
    assert(now_s >= 0 && order->expires_s >= 0 && order->expires_s <= TOKEN_TIME_MAX && order->role < ROLE_COUNT);
    if (!token_name_is_good(name)) {
        return STATUS_INVALID;
    }
    if (tokens->change != NULL || token_list_find(&tokens->list, name) < tokens->list.count) {
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
    *token = (struct token){ .created_s = now_s, .expires_s = order->expires_s, .role = order->role };
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
    size_t i = token_list_find(&tokens->list, name);
    if (i == tokens->list.count) {
        return STATUS_NOT_FOUND;
    }
    tokens->list.tokens[i].revoked = true;
    if (tokens->change != NULL) {
        return STATUS_BUSY;
    }
    struct change *change = change_new(tokens, on_done, owner);
    return change != NULL ? change_start(change, loop) : STATUS_NO_MEMORY;
}

/* The calendar may be set back: then what the file has lies ahead. */
static bool is_far_from(int64_t now_s, int64_t then_s, int64_t step_s)
{
    return now_s < then_s || now_s - then_s >= step_s;
}

void tokens_save_used(struct tokens *tokens, uv_loop_t *loop, int64_t now_s)
{
    bool wanted = false;
    for (size_t i = 0; i < tokens->list.count; i++) {
        const struct token *token = &tokens->list.tokens[i];
        wanted = wanted || token->revoked || is_far_from(token->used_s, tokens->used_written_s[i], USED_STEP_S);
    }
    if (!wanted || tokens->change != NULL || !is_far_from(now_s, tokens->saved_s, SAVE_REST_S)) {
        return;
    }
    tokens->saved_s = now_s;
    struct change *change = change_new(tokens, NULL, NULL);
    if (change != NULL) {
        (void)change_start(change, loop);
    }
}
