/* What the rooms of the configuration share: config (the table, and which source wins), config_value (the kinds of
 * values), config_check (what no value can tell alone), config_print. Nobody else needs it. */
#ifndef SERVER_CONFIG_PARTS_H
#define SERVER_CONFIG_PARTS_H

#include "base/text.h"
#include "server/config.h"

enum config_kind {
    KIND_TEXT,
    KIND_SECRET,     /* a text that is never printed; UPDRAFT_…_FILE names a file that holds it */
    KIND_SECRET_URL, /* the same, shown without user and password */
    KIND_LISTEN,
    KIND_NETWORKS,
    KIND_MACS,
    KIND_FILES,
    KIND_DURATION,
    KIND_SIZE,
    KIND_COUNT,
    KIND_PERCENT, /* "20%" or "20" */
    KIND_BOOL,
    KIND_CHOICE, /* one of the words of `argument`; its place is the number */
    KIND_LEVEL,
    KIND_FORMAT,
};

struct config_key {
    const char *name; /* --name, UPDRAFT_NAME, `name =` */
    enum config_kind kind;
    size_t offset;
    const char *fallback;
    uint64_t min, max; /* of a list: how many */
    bool fixed;        /* read at start only */
    const char *argument;
    const char *help;
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;

/* Flags that are no settings. */
struct config_flag {
    const char *name;
    enum config_action action;
    const char *help;
};

extern const struct config_flag config_flags[];
extern const size_t config_flag_count;

/* NULL where there is none of this name. */
const struct config_key *config_key_find(const char *name);

/* The variable that a key is set by: UPDRAFT_NAME. */
#define CONFIG_VARIABLE_MAX 64
void config_variable(const struct config_key *key, char name[CONFIG_VARIABLE_MAX]);

/* --- one value (config_value.c) ------------------------------------------------------------------------------------
 */

bool config_is_secret(const struct config_key *key);
bool config_is_text(const struct config_key *key); /* secrets among them */
bool config_is_list(const struct config_key *key);
bool config_is_address(struct slice value); /* ADDR:PORT */

/* Where a key's value lies, by its kind. */
uint64_t *config_number(const struct config *config, const struct config_key *key);
char *config_text(const struct config *config, const struct config_key *key);
struct config_list *config_list(const struct config *config, const struct config_key *key);

/* Takes a value as it is written; one more, where the key is a list. Returns whether it is usable. */
bool config_set(struct config *config, const struct config_key *key, struct slice value);

/* What a value must look like, for the complaint. */
void config_describe(const struct config_key *key, char *to, size_t size);

/* A number, in whichever form it is written. */
void config_number_print(const struct config_key *key, uint64_t number, char *to, size_t size);

bool config_same(const struct config *a, const struct config *b, const struct config_key *key);
void config_copy(struct config *to, const struct config *from, const struct config_key *key);

/* --- all of them together (config_check.c) --------------------------------------------------------------------------
 */

/* STATUS_INVALID: `message` names the key, the reason and the remedy. */
enum status config_check(const struct config *config, char *message, size_t size);

#endif
