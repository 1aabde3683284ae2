/* updraft: a table of verbs, and the way from a command line to one of them.
 *
 * What makes it hard: flags may stand before the verb, between it and its part, and behind; and the same program is
 * called publish-update.
 */
#include "base/nearest.h"
#include "base/text.h"
#include "cli/server_place.h"
#include "cli/shown.h"
#include "cli/verb.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX      512
#define HELP_WIDTH     80
#define HELP_COLUMN    28
#define HELP_LEFT_MOST 32

/* Parts of a verb stand together; the first is what the verb alone means. */
static const struct verb *const verbs[] = {
    /* clang-format off */
    &verb_publish_update,
    &verb_rollouts_ls, &verb_rollouts_show, &verb_rollouts_pause, &verb_rollouts_resume, &verb_rollouts_abort,
    &verb_devices_ls, &verb_devices_show, &verb_devices_pin, &verb_devices_unpin, &verb_devices_assign,
    &verb_devices_unassign, &verb_devices_block, &verb_devices_unblock, &verb_devices_approve, &verb_devices_group,
    &verb_devices_groups, &verb_devices_retry, &verb_devices_forget,
    &verb_firmware_ls, &verb_firmware_add, &verb_firmware_rm, &verb_firmware_rejected,
    &verb_explain, &verb_sign, &verb_status,
    &verb_token_ls, &verb_token_new, &verb_token_revoke,
    &verb_audit, &verb_device_password,
    /* clang-format on */
};
#define VERB_COUNT (sizeof verbs / sizeof verbs[0])

static const struct flag common_flags[] = { COMMON_FLAGS };

struct line {
    const char *program;
    int argc; /* without the program's name */
    const char **argv;
};

/* --- help --------------------------------------------------------------------------------------------------------- */

static void print_call(FILE *to, const struct verb *verb)
{
    fprintf(to, "%s%s%s%s%s", verb->name, verb->sub != NULL ? " " : "", verb->sub != NULL ? verb->sub : "",
            verb->words[0] != '\0' ? " " : "", verb->words);
}

/* "  LEFT    help", its further lines below its first. Completion reads these lines: two blanks, the name, and a blank
 * behind a choice. */
static void print_row(const char *left, const char *text)
{
    size_t n = (size_t)printf("  %-24s  ", left);
    if (n > HELP_LEFT_MOST) {
        n = (size_t)printf("\n%*s", HELP_COLUMN, "") - 1;
    }
    shown_wrapped(stdout, text, n, HELP_COLUMN, HELP_WIDTH);
    putchar('\n');
}

/* The flags of a table as far as the common ones, which end each. */
static void print_flags(const struct flag *flags, const char *end)
{
    for (const struct flag *flag = flags; flag->name != NULL && strcmp(flag->name, end) != 0; flag++) {
        char left[96];
        snprintf(left, sizeof left, "--%s%s%s", flag->name, flag->value[0] != '\0' ? " " : "", flag->value);
        print_row(left, flag->help);
    }
}

static void print_common_flags(void)
{
    puts("\nFlags of every verb:");
    print_flags(common_flags, "");
}

static void print_own_help(const struct verb *verb)
{
    printf("usage: updraft ");
    print_call(stdout, verb);
    printf(" [flags]\n%c%s.\n", toupper((unsigned char)verb->summary[0]), verb->summary + 1);
    if (verb->more[0] != '\0') {
        shown_wrapped(stdout, verb->more, 0, 0, HELP_WIDTH);
        putchar('\n');
    }
    if (strcmp(verb->flags->name, common_flags->name) != 0) {
        putchar('\n');
        print_flags(verb->flags, common_flags->name);
    }
}

static void print_help(void)
{
    puts("usage: updraft VERB [flags]\nSpeaks to a running updraftd.\n");
    for (size_t i = 0; i < VERB_COUNT; i++) {
        char left[64];
        const struct verb *verb = verbs[i];
        snprintf(left, sizeof left, "%s%s%s %s", verb->name, verb->sub != NULL ? " " : "",
                 verb->sub != NULL ? verb->sub : "", verb->words);
        print_row(left, verb->summary);
    }
    print_row("help [VERB]", "print this, or the flags of a verb");
    print_common_flags();
    print_row("--version", "print the version (without a verb)");
    puts("\nVariables (flags win): UPDRAFT_ADMIN_SOCKET, UPDRAFT_SERVER, UPDRAFT_TOKEN,\n"
         "UPDRAFT_TOKEN_FILE, UPDRAFT_STATE.\n"
         "Exit codes: 0 done, 1 refused or failed, 2 bad usage, 3 no server.\n"
         "\"man updraft\" has the whole of it.");
}

/* --- from words to a verb ----------------------------------------------------------------------------------------- */

static enum cli_exit usage(const char *program, const char *message)
{
    shown_problem(program, message, "");
    return CLI_USAGE;
}

static enum cli_exit unknown_verb(const char *program, const char *name)
{
    char message[256];
    struct nearest nearest = { .wanted = name };
    for (size_t i = 0; i < VERB_COUNT; i++) {
        nearest_try(&nearest, verbs[i]->name);
    }
    nearest_try(&nearest, "help");
    nearest_try(&nearest, "--version");
    if (nearest.name != NULL) {
        snprintf(message, sizeof message, "unknown verb \"%.64s\": did you mean %s?", name, nearest.name);
    } else {
        snprintf(message, sizeof message, "unknown verb \"%.64s\": \"updraft help\" lists those there are", name);
    }
    return usage(program, message);
}

/* The part of a verb by its word. Where there is none by that name: NULL, said. */
static const struct verb *find_part(const char *program, const char *name, const char *sub)
{
    char message[256];
    struct nearest nearest = { .wanted = sub };
    for (size_t i = 0; i < VERB_COUNT; i++) {
        if (strcmp(verbs[i]->name, name) != 0) {
            continue;
        }
        if (strcmp(verbs[i]->sub, sub) == 0) {
            return verbs[i];
        }
        nearest_try(&nearest, verbs[i]->sub);
    }
    if (nearest.name != NULL) {
        snprintf(message, sizeof message, "%s has no \"%.64s\": did you mean %s?", name, sub, nearest.name);
    } else {
        snprintf(message, sizeof message, "%s has no \"%.64s\": \"updraft help %s\" lists what it has", name, sub,
                 name);
    }
    usage(program, message);
    return NULL;
}

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < VERB_COUNT; i++) {
        if (strcmp(verbs[i]->name, name) == 0) {
            return verbs[i];
        }
    }
    return NULL;
}

static void take_out(struct line *line, int at)
{
    memmove(line->argv + at, line->argv + at + 1, (size_t)(line->argc - at - 1) * sizeof *line->argv);
    line->argc--;
}

/* Adds those of `flags` that the table `all` does not have. */
static void add_flags(struct flag *all, size_t room, const struct flag *flags)
{
    for (; flags->name != NULL; flags++) {
        size_t i = 0;
        while (all[i].name != NULL && strcmp(all[i].name, flags->name) != 0) {
            i++;
        }
        assert(i + 1 < room);
        all[i] = *flags;
    }
}

/* Which of a verb's flags take values is the same for all its parts, so the table of them all finds the part's word. */
static const struct verb *take_part(struct line *line, const struct verb *verb)
{
    static struct flag all[4 * ARGS_FLAGS_MAX];
    for (size_t i = 0; i < VERB_COUNT; i++) {
        if (strcmp(verbs[i]->name, verb->name) == 0) {
            add_flags(all, sizeof all / sizeof all[0], verbs[i]->flags);
        }
    }
    int at = args_first_word(all, line->argc, line->argv);
    if (at == line->argc) {
        return verb;
    }
    const struct verb *part = find_part(line->program, verb->name, line->argv[at]);
    if (part != NULL) {
        take_out(line, at);
    }
    return part;
}

/* --- running ------------------------------------------------------------------------------------------------------ */

static bool asks_help(const struct line *line)
{
    for (int i = 0; i < line->argc && strcmp(line->argv[i], "--") != 0; i++) {
        if (strcmp(line->argv[i], "--help") == 0 || strcmp(line->argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

/* The n-th of what a verb's words are called: "VERSION" of "MAC VERSION". */
static struct slice word_name(const struct verb *verb, size_t n)
{
    struct slice rest = slice_of(verb->words), name;
    do {
        name = slice_next_word(&rest);
    } while (n-- > 0);
    return name;
}

static enum cli_exit check_words(const struct line *line, const struct verb *verb, const struct args *args)
{
    char message[256];
    if (args->word_count < verb->words_min) {
        struct slice name = word_name(verb, args->word_count);
        snprintf(message, sizeof message, "%.*s is missing: updraft %s%s%s %s", (int)name.len, name.at, verb->name,
                 verb->sub != NULL ? " " : "", verb->sub != NULL ? verb->sub : "", verb->words);
        return usage(line->program, message);
    }
    if (args->word_count > verb->words_max) {
        snprintf(message, sizeof message, "\"%.64s\" is a word too many: \"updraft %s%s%s --help\" shows what is taken",
                 args->words[verb->words_max], verb->name, verb->sub != NULL ? " " : "",
                 verb->sub != NULL ? verb->sub : "");
        return usage(line->program, message);
    }
    for (size_t i = 0; i < args->word_count; i++) {
        if (args->words[i][0] == '\0') {
            struct slice name = word_name(verb, i);
            snprintf(message, sizeof message, "%.*s is empty: give it a value", (int)name.len, name.at);
            return usage(line->program, message);
        }
    }
    return CLI_DONE;
}

static enum cli_exit run_verb(const struct line *line, const struct verb *verb)
{
    char message[1024];
    struct args args;
    struct server_place place;
    enum cli_exit code = CLI_USAGE;
    if (!args_parse(&args, verb->flags, verb->dash_words, line->argc, line->argv, message, sizeof message)) {
        usage(line->program, message);
        goto done;
    }
    if (check_words(line, verb, &args) != CLI_DONE) {
        goto done;
    }
    if (!server_place_find(&place, &args, message, sizeof message)) {
        usage(line->program, message);
        goto done;
    }
    struct cli cli = { line->program, &args, api_client_new(&place), args_has(&args, "json") };
    code = verb->run(&cli);
    api_client_free(cli.api);
done:
    args_close(&args);
    return code;
}

/* The help of a verb, of all its parts where none is named. */
static enum cli_exit help(struct line *line, const struct verb *verb)
{
    int before = line->argc;
    const struct verb *part = verb->sub != NULL ? take_part(line, verb) : verb;
    if (part == NULL) {
        return CLI_USAGE;
    }
    if (verb->sub == NULL || line->argc < before) {
        print_own_help(part);
    } else {
        for (size_t i = 0; i < VERB_COUNT; i++) {
            if (strcmp(verbs[i]->name, verb->name) == 0) {
                fputs(verbs[i] != verb ? "\n" : "", stdout);
                print_own_help(verbs[i]);
            }
        }
    }
    print_common_flags();
    return CLI_DONE;
}

static enum cli_exit print_version(void)
{
    printf("updraft %s\n", UPDRAFT_VERSION);
    return CLI_DONE;
}

static enum cli_exit run_named(struct line *line, const struct verb *verb)
{
    if (line->argc == 1 && strcmp(line->argv[0], "--version") == 0) {
        return print_version(); /* else publish-update's own --version, which has a value */
    }
    int word = args_first_word(common_flags, line->argc, line->argv);
    bool named = verb->sub != NULL && word < line->argc && strcmp(line->argv[word], "help") == 0;
    if (named) {
        take_out(line, word); /* "updraft firmware help", which git's users write */
    }
    if (named || asks_help(line)) {
        return help(line, verb);
    }
    verb = verb->sub != NULL ? take_part(line, verb) : verb;
    return verb != NULL ? run_verb(line, verb) : CLI_USAGE;
}

/* A line without a verb asks for the version or for help, or is a mistake. */
static enum cli_exit run_without_verb(const struct line *line)
{
    struct args args;
    char message[1024];
    if (line->argc == 1 && strcmp(line->argv[0], "--version") == 0) {
        return print_version();
    }
    if (asks_help(line)) {
        print_help();
        return CLI_DONE;
    }
    bool good = args_parse(&args, common_flags, false, line->argc, line->argv, message, sizeof message);
    args_close(&args);
    return usage(line->program, good ? "a verb is missing: \"updraft help\" lists those there are" : message);
}

static enum cli_exit run_line(struct line *line)
{
    if (strcmp(line->program, "publish-update") == 0) {
        return run_named(line, &verb_publish_update);
    }
    int at = args_first_word(common_flags, line->argc, line->argv);
    if (at == line->argc) {
        return run_without_verb(line);
    }
    const char *name = line->argv[at];
    bool is_help = strcmp(name, "help") == 0;
    take_out(line, at);
    if (is_help) {
        at = args_first_word(common_flags, line->argc, line->argv);
        if (at == line->argc || strcmp(line->argv[at], "help") == 0) {
            print_help();
            return CLI_DONE;
        }
        name = line->argv[at];
        take_out(line, at);
    }
    const struct verb *verb = find_verb(name);
    if (verb == NULL) {
        return unknown_verb(line->program, name);
    }
    return is_help ? help(line, verb) : run_named(line, verb);
}

int main(int argc, char **argv)
{
    char message[64];
    const char *words[WORDS_MAX];
    const char *called = argc > 0 ? argv[0] : "updraft", *slash = strrchr(called, '/');
    struct line line = { .program = slash != NULL ? slash + 1 : called, .argc = argc - 1, .argv = words };
    if (argc < 1 || argc > WORDS_MAX) {
        snprintf(message, sizeof message, "too many words: give at most %d", WORDS_MAX);
        return usage(line.program, message);
    }
    memcpy(words, argv + 1, (size_t)line.argc * sizeof *words);
    int code = (int)run_line(&line);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        shown_problem(line.program, "what was to be said could not be written", "is the disk full?");
        code = code == CLI_DONE ? CLI_FAILED : code;
    }
    return code;
}
