/* The bearer tokens of the admin API: random, shown once, kept as hashes.
 *
 * STATE/tokens (mode 0600), a line a token: `<64 hex digits: SHA-256> <created, seconds since 1970> <name>`. A token
 * has 256 random bits, so a plain digest is enough at rest. Reading happens at start and at a reload; writing on a
 * worker thread, by rename after fsync.
 */
#ifndef SERVER_TOKENS_H
#define SERVER_TOKENS_H

#include "base/status.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define TOKEN_PREFIX    "updraft_" /* so that leaked ones can be searched for */
#define TOKEN_TEXT_SIZE 52         /* prefix, 43 characters base64url of 32 bytes, NUL */
#define TOKEN_NAME_MAX  64         /* bytes: letters, digits, `.`, `_`, `-` */
#define TOKENS_MAX      256

struct token_view {
    const char *name;
    int64_t created_s;
};

struct tokens;

/* `path` is copied. STATUS_OK also where the file does not exist. Else `message` names file, line, reason and remedy.
 */
enum status tokens_load(const char *path, struct tokens **tokens, char *message, size_t size);
/* A change under way still reaches the disk (the loop must run until it has), but nobody hears of it. */
void tokens_free(struct tokens *tokens);

/* Whether the text is a token that we gave out. Compares every hash in constant time. */
bool tokens_admit(const struct tokens *tokens, struct slice token);

size_t tokens_count(const struct tokens *tokens);
bool tokens_at(const struct tokens *tokens, size_t i, struct token_view *view);

/* Makes a token, or removes one; on_done is called later, on the loop, when the file is on disk (STATUS_OK) or cannot
 * be (nothing has changed then). `text` is the new token, borrowed; NULL for a removal. STATUS_INVALID (the name),
 * STATUS_BUSY (a token of that name; or a change is under way: try again), STATUS_NOT_FOUND, STATUS_LIMIT come back at
 * once, without on_done. */
typedef void (*tokens_done_fn)(void *owner, enum status status, const char *text);
enum status tokens_make(struct tokens *tokens, uv_loop_t *loop, struct slice name, int64_t now_s,
                        tokens_done_fn on_done, void *owner);
enum status tokens_remove(struct tokens *tokens, uv_loop_t *loop, struct slice name, tokens_done_fn on_done,
                          void *owner);

#endif
