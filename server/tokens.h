/* The bearer tokens of the admin API: random, named, of a role, perhaps ending by themselves; shown once, kept as
 * hashes. A token has 256 random bits, so a plain digest is enough at rest.
 *
 * Reading happens at the start; writing on a worker thread, by rename after fsync (token_file). When a token was last
 * used is known to the second, and to the hour after a restart.
 */
#ifndef SERVER_TOKENS_H
#define SERVER_TOKENS_H

#include "base/status.h"
#include "base/text.h"
#include "server/role.h"

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
    enum role role;
    bool role_unsaid; /* it is from before there were roles, and may all */
    int64_t created_s;
    int64_t expires_s, used_s; /* 0 = never */
    bool revoked;              /* opens nothing any more, but is still in the file */
};

struct tokens;

/* `path` is copied. STATUS_OK also where the file does not exist. Else `message` names file, line, reason and remedy.
 */
enum status tokens_load(const char *path, struct tokens **tokens, char *message, size_t size);
/* A change under way still reaches the disk (the loop must run until it has), but nobody hears of it. */
void tokens_free(struct tokens *tokens);

enum tokens_found { TOKENS_UNKNOWN, TOKENS_EXPIRED, TOKENS_GOOD };

/* Whose token it is: `view` is written unless it is nobody's, and valid until the next change. Compares every hash in
 * constant time. A good one counts as used now. */
enum tokens_found tokens_admit(struct tokens *tokens, struct slice text, int64_t now_s, struct token_view *view);

size_t tokens_count(const struct tokens *tokens);
bool tokens_at(const struct tokens *tokens, size_t i, struct token_view *view);

/* Makes a token, or removes one; on_done is called later, on the loop, when the file is on disk (STATUS_OK) or cannot
 * be. `text` is the new token, borrowed; NULL for a removal. STATUS_INVALID (the name), STATUS_BUSY (a token of that
 * name; or a change is under way: try again), STATUS_NOT_FOUND, STATUS_LIMIT come back at once, without on_done.
 *
 * Where the file cannot be written no token has been made; but one that was to be removed is `revoked`, also with
 * STATUS_BUSY: it opens nothing from the call on, and goes right behind the change under way, or, where the disk fails,
 * with the next that reaches it. */
typedef void (*tokens_done_fn)(void *owner, enum status status, const char *text);
struct token_order {
    struct slice name;
    enum role role;
    int64_t expires_s; /* 0 = never */
};
enum status tokens_make(struct tokens *tokens, uv_loop_t *loop, const struct token_order *order, int64_t now_s,
                        tokens_done_fn on_done, void *owner);
enum status tokens_remove(struct tokens *tokens, uv_loop_t *loop, struct slice name, tokens_done_fn on_done,
                          void *owner);

/* Now and then: writes down when they were last used, where that is an hour more than the file knows; and leaves out
 * what was revoked while the disk failed. */
void tokens_save_used(struct tokens *tokens, uv_loop_t *loop, int64_t now_s);

#endif
