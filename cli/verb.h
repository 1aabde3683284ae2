/* What a verb is: a row of main's table. And what all verbs need: the server, the exit codes, the printing of JSON. */
#ifndef CLI_VERB_H
#define CLI_VERB_H

#include "cli/api_client.h"
#include "cli/args.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum cli_exit {
    CLI_DONE,      /* 0 */
    CLI_FAILED,    /* 1: refused or failed; the reason is on stderr */
    CLI_USAGE,     /* 2 */
    CLI_NO_SERVER, /* 3 */
};

struct cli {
    const char *program; /* as it was called, for messages */
    const struct args *args;
    struct api_client *api;
    bool json;
};

struct verb {
    const char *name; /* "firmware" */
    const char *sub;  /* "ls"; NULL where the verb has no parts. The first part in main's table is the default. */
    const char *words;
    size_t words_min, words_max;
    bool dash_words; /* "-kitchen" is a word */
    const struct flag *flags;
    const char *summary;
    const char *more; /* for its own help; "" = nothing */
    enum cli_exit (*run)(struct cli *cli);
};

extern const struct verb verb_publish_update;
extern const struct verb verb_firmware_ls, verb_firmware_add, verb_firmware_rm, verb_firmware_rejected;
extern const struct verb verb_devices_ls, verb_devices_show, verb_devices_pin, verb_devices_unpin, verb_devices_assign,
    verb_devices_unassign, verb_devices_block, verb_devices_unblock, verb_devices_approve, verb_devices_group,
    verb_devices_groups, verb_devices_retry, verb_devices_forget;
extern const struct verb verb_rollouts_ls, verb_rollouts_show, verb_rollouts_pause, verb_rollouts_resume,
    verb_rollouts_abort;
extern const struct verb verb_explain, verb_sign, verb_status, verb_device_password;
extern const struct verb verb_token_ls, verb_token_new, verb_token_revoke;
extern const struct verb verb_audit;

/* Says on stderr what went wrong with the last call (not API_DONE), with --json the error object on stdout: the
 * server's, or one like it where none answered. Returns the exit code. */
enum cli_exit cli_refused(struct cli *cli, enum api_result result);

/* The same of something that was found out here: an error of this code. */
void cli_say_error(const struct cli *cli, const char *code, const char *message, const char *remedy);

/* The usual end of a verb: the reply (taken over) printed by `print`, or as JSON, or the refusal said. A warning that
 * the reply has is said in any case. */
typedef void (*print_fn)(const struct cli *cli, const json_t *reply);
enum cli_exit cli_answer(struct cli *cli, enum api_result result, json_t *reply, print_fn print);

/* An order and its usual end. */
enum cli_exit cli_change(struct cli *cli, const char *method, const struct api_path *path, const json_t *body,
                         print_fn print);

/* "d1_mini/0.4.10.bin, version 0.4.10, 321.0 KiB, ESP8266, md5 …": what an answer says of an image, of `members` (a
 * list that ends with NULL) in their order. What it does not say is left out: a file system has no chip. */
void cli_image_text(const json_t *image, const char *const *members, char *to, size_t size);

/* The answer's notes from the `first` on, sentences that an operator should know of, each as "note: …" on stderr;
 * nothing without them. Returns how many the answer has. */
size_t cli_print_notes(const json_t *answer, size_t first);

/* One document on stdout: what --json prints. */
void cli_print_json(const json_t *document);

#endif
