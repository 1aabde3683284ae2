#include "server/device_users.h"

#include "base/file.h"
#include "proto/type.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct device_users {
    size_t count, room;
    struct device_user *list; /* by name */
    bool cover_all;
    size_t type_count, type_room;
    char (*types)[TYPE_TEXT_MAX + 1]; /* those that any line names, in order */
    uint32_t rounds_max;
};

static bool is_name(struct slice name)
{
    if (name.len == 0 || name.len > DEVICE_USER_NAME_MAX || name.at[0] == '#') {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        if (name.at[i] <= ' ' || name.at[i] > '~') {
            return false;
        }
    }
    return true;
}

/* Takes the text up to the next `end` off the front; `found`: it stands there. */
static struct slice cut(struct slice *rest, char end, bool *found)
{
    const char *at = rest->len > 0 ? memchr(rest->at, end, rest->len) : NULL;
    size_t n = at != NULL ? (size_t)(at - rest->at) : rest->len;
    struct slice piece = { rest->at, n };
    *found = at != NULL;
    *rest = (struct slice){ rest->at + n + *found, rest->len - n - *found };
    return piece;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* Room for one more of `size` bytes each. */
static void *grow(void *list, size_t count, size_t *room, size_t size)
{
    if (count < *room) {
        return list;
    }
    size_t wanted = *room == 0 ? 16 : 2 * *room;
    void *grown = reallocarray(list, wanted, size);
    *room = grown != NULL ? wanted : *room;
    return grown;
}

static const char *const no_memory = "finds no memory";

/* Adds the types of a line to those that are covered. Returns what is wrong with them, or NULL. */
static const char *read_types(struct device_users *users, struct slice types)
{
    bool more = true;
    while (more) {
        struct slice type = cut(&types, ',', &more);
        if (!type_is_valid(type)) {
            return "has types that cannot be read: write them as in the files' names, with commas between and no "
                   "blanks";
        }
        void *grown = grow(users->types, users->type_count, &users->type_room, sizeof users->types[0]);
        if (grown == NULL) {
            return no_memory;
        }
        users->types = grown;
        (void)slice_copy(type, users->types[users->type_count++], sizeof users->types[0]);
    }
    return NULL;
}

/* Adds the user of a line. Returns what is wrong with it, or NULL. */
static const char *read_line(struct device_users *users, struct slice line, unsigned long number)
{
    bool has_hash, has_types;
    struct slice name = cut(&line, ':', &has_hash), hash = cut(&line, ':', &has_types);
    struct device_user user = { .line = number };
    const char *why;
    if (!is_name(name)) {
        return "does not begin with a name of 1 to 64 characters without blanks";
    }
    if (!has_hash || !password_hash_read(hash, &user.hash)) {
        return "has no hash of a password behind the name and a colon";
    }
    if (users->count == DEVICE_USERS_MAX) {
        return "is one more than there can be";
    }
    void *grown = grow(users->list, users->count, &users->room, sizeof users->list[0]);
    if (grown == NULL) {
        return no_memory;
    }
    users->list = grown;
    if (has_types && (why = read_types(users, line)) != NULL) {
        return why;
    }
    (void)slice_copy(name, user.name, sizeof user.name);
    user.types = has_types ? strndup(line.at, line.len) : NULL;
    if (has_types && user.types == NULL) {
        return no_memory;
    }
    users->cover_all = users->cover_all || !has_types;
    users->rounds_max = user.hash.rounds > users->rounds_max ? user.hash.rounds : users->rounds_max;
    users->list[users->count++] = user;
    return NULL;
}

static enum status read_lines(struct device_users *users, const char *path, struct slice text, char *message,
                              size_t size)
{
    bool more = text.len > 0;
    for (unsigned long number = 1; more; number++) {
        struct slice line = slice_trim(cut(&text, '\n', &more));
        line.len -= slice_ends_with(line, "\r");
        const char *why = line.len > 0 && line.at[0] != '#' ? read_line(users, line, number) : NULL;
        if (why != NULL) {
            snprintf(message, size,
                     "--device-passwords %s:%lu: the line %s; `updraft device-password NAME` writes a good one", path,
                     number, why);
            return STATUS_INVALID;
        }
    }
    return STATUS_OK;
}

static int by_name(const void *a, const void *b)
{
    const struct device_user *one = a, *other = b;
    return strcmp(one->name, other->name);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Brings all in order, so that they are found; nobody may stand there twice. */
static enum status put_in_order(struct device_users *users, const char *path, char *message, size_t size)
{
    if (users->count == 0) { /* an empty file would open what it is there to close */
        snprintf(message, size,
                 "--device-passwords %s: no user is in it: add one with `updraft device-password NAME >> FILE`, or "
                 "take the flag away",
                 path);
        return STATUS_INVALID;
    }
    qsort(users->list, users->count, sizeof users->list[0], by_name);
    for (size_t i = 1; i < users->count; i++) {
        const struct device_user *one = &users->list[i - 1], *other = &users->list[i];
        if (strcmp(one->name, other->name) == 0) {
            unsigned long first = one->line < other->line ? one->line : other->line;
            snprintf(message, size,
                     "--device-passwords %s:%lu: the line has a name that line %lu has: take one of them out", path,
                     one->line + other->line - first, first);
            return STATUS_INVALID;
        }
    }
    if (users->type_count > 0) {
        qsort(users->types, users->type_count, sizeof users->types[0], by_text);
    }
    return STATUS_OK;
}

/* What was proven before stays so. */
static void take_over(struct device_users *users, const struct device_users *before)
{
    for (size_t i = 0; before != NULL && i < users->count; i++) {
        struct device_user *user = &users->list[i];
        const struct device_user *same = bsearch(user, before->list, before->count, sizeof before->list[0], by_name);
        if (same != NULL && memcmp(&same->hash, &user->hash, sizeof user->hash) == 0) {
            user->is_proven = same->is_proven;
            memcpy(user->proven, same->proven, sizeof user->proven);
        }
    }
}

enum status device_users_load(const char *path, const struct device_users *before, struct device_users **users,
                              char *message, size_t size)
{
    char *text = NULL;
    size_t n = 0;
    struct device_users *loaded = calloc(1, sizeof *loaded);
    enum status status = loaded == NULL ? STATUS_NO_MEMORY : file_read(path, DEVICE_USERS_FILE_MAX, &text, &n);
    if (status != STATUS_OK) {
        snprintf(message, size, "--device-passwords %s: %s: name a file that the server's user can read", path,
                 status_text(status));
        free(loaded);
        return status;
    }
    status = read_lines(loaded, path, (struct slice){ text, n }, message, size);
    file_forget(text, n);
    status = status == STATUS_OK ? put_in_order(loaded, path, message, size) : status;
    if (status != STATUS_OK) {
        device_users_free(loaded);
        return status;
    }
    take_over(loaded, before);
    *users = loaded;
    return STATUS_OK;
}

void device_users_free(struct device_users *users)
{
    for (size_t i = 0; users != NULL && i < users->count; i++) {
        free(users->list[i].types);
    }
    if (users != NULL) {
        free(users->list);
        free(users->types);
        free(users);
    }
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

size_t device_users_count(const struct device_users *users)
{
    return users->count;
}

uint32_t device_users_rounds_max(const struct device_users *users)
{
    return users->rounds_max;
}

struct device_user *device_users_find(struct device_users *users, struct slice name)
{
    struct device_user wanted;
    return memchr(name.at, '\0', name.len) == NULL && slice_copy(name, wanted.name, sizeof wanted.name)
               ? bsearch(&wanted, users->list, users->count, sizeof users->list[0], by_name)
               : NULL;
}

bool device_users_cover(const struct device_users *users, struct slice type)
{
    char wanted[TYPE_TEXT_MAX + 1];
    return users->cover_all ||
           (users->type_count > 0 && slice_copy(type, wanted, sizeof wanted) &&
            bsearch(wanted, users->types, users->type_count, sizeof users->types[0], by_text) != NULL);
}

const char *device_users_type(const struct device_users *users, size_t i)
{
    return i < users->type_count ? users->types[i] : NULL;
}

bool device_user_is_for(const struct device_user *user, struct slice type)
{
    bool more = true;
    struct slice types = slice_of(user->types != NULL ? user->types : "");
    while (user->types != NULL && more) {
        struct slice one = cut(&types, ',', &more);
        if (one.len == type.len && memcmp(one.at, type.at, type.len) == 0) {
            return true;
        }
    }
    return user->types == NULL;
}
