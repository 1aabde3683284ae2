/* Flags and words of a command line, by a table of flags. Values are checked and brought into one form here, so that a
 * verb reads what it can use: a MAC has 12 lower-case digits whichever way it was typed.
 *
 * `--flag value` and `--flag=value`; flags and words in any order; `--` ends the flags.
 */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>

enum flag_kind {
    FLAG_SWITCH,
    FLAG_TEXT,
    FLAG_CHOICE,  /* one of the words of `value`: "sketch|fs" */
    FLAG_MAC,     /* 12 lower-case digits */
    FLAG_MACS,    /* the same, with commas between, each once */
    FLAG_MD5,     /* 32 lower-case digits */
    FLAG_SHA256,  /* 64 */
    FLAG_BYTES,   /* "4M" becomes 4194304; from 1 */
    FLAG_SECONDS, /* "90", "90s", "5m" become seconds; to 24 h, as the server takes them */
    FLAG_TIMEOUT, /* the same, from 1 s */
    FLAG_SPAN,    /* "30m", "12h", "90d" become seconds; from 1 s to a hundred years */
    FLAG_PERCENT, /* 1 to 100, with or without "%" */
    FLAG_SHARE,   /* 0 to 100, the same */
    FLAG_FEW,     /* a number from 0 to 10000 */
    FLAG_PAGE,    /* from 1 to 1000 */
    FLAG_MANY,    /* from 1 to 100000 */
};

struct flag {
    const char *name; /* without the dashes; NULL ends a table */
    enum flag_kind kind;
    const char *value; /* what the help calls it */
    const char *help;
};

/* Ends every verb's table: what all verbs take. */
/* clang-format off */
#define COMMON_FLAGS                                                                                                   \
    { "json", FLAG_SWITCH, "", "print one JSON document instead of text for people" },                                 \
    { "admin-socket", FLAG_TEXT, "PATH",                                                                               \
      "the server's admin socket (default: ./state/admin.sock, else /run/updraft/admin.sock)" },                   \
    { "server", FLAG_TEXT, "URL", "the server's --admin-listen, as http://HOST:PORT, instead of a socket" },           \
    { "token", FLAG_TEXT, "T",                                                                                         \
      "for --server; all users of this machine can see it here, so rather name a file in UPDRAFT_TOKEN_FILE" },        \
    { "help", FLAG_SWITCH, "", "print the verb's flags" },                                                             \
    { NULL, FLAG_SWITCH, "", "" }
/* clang-format on */

#define ARGS_FLAGS_MAX 24
#define ARGS_WORDS_MAX 20

struct args {
    struct {
        const struct flag *flag;
        char *value;
    } given[ARGS_FLAGS_MAX];
    size_t given_count;
    const char *words[ARGS_WORDS_MAX];
    size_t word_count;
};

/* Reads `argv` (without the program's name). With `dash_words` what begins with a single dash is a word ("-kitchen"):
 * no flag does, but for -h. Returns false, with a message that names the word, what is wrong and the
 * remedy, on bad usage. The result is to be closed in either case. */
bool args_parse(struct args *args, const struct flag *flags, bool dash_words, int argc, const char *const *argv,
                char *message, size_t size);
void args_close(struct args *args);

/* The value of a flag in its one form ("" of a switch); NULL where it was not given. */
const char *args_get(const struct args *args, const char *name);
bool args_has(const struct args *args, const char *name);

/* A word that is to be a MAC, in any usual form, as 12 lower-case digits; false where it is none. */
#define ARGS_MAC_SIZE 13
#define ARGS_MAC_HELP "give a device's MAC address, such as 5c:cf:7f:b1:e0:42"
bool args_mac(const char *word, char mac[ARGS_MAC_SIZE]);

/* Where the first word stands that is neither a flag nor a flag's value, by a table; `argc` where there is none. */
int args_first_word(const struct flag *flags, int argc, const char *const *argv);

#endif
