/* device-password: the line of a user whose password devices send. No server is asked: the line goes into the file that
 * updraftd's --device-passwords names. A password is read from the terminal or from stdin, never from the command line,
 * which all users of the machine can see.
 */
#include "base/password.h"
#include "cli/shown.h"
#include "cli/verb.h"
#include "proto/type.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define USER_MAX 64

static const struct flag flags[] = {
    { "type", FLAG_TEXT, "T,T...", "for devices of these types alone (default: of every type)" },
    { "random", FLAG_SWITCH, "", "draw a password instead of reading one, and show it this once, on stderr" },
    COMMON_FLAGS,
};

static bool is_user(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++) {
        if (name[i] <= ' ' || name[i] > '~' || name[i] == ':') {
            return false;
        }
    }
    return n > 0 && n <= USER_MAX && name[0] != '#';
}

/* As they stand in the file: "d1_mini,esp32". A line that the server cannot read would end its start. */
static bool are_types(const char *types)
{
    size_t n = strcspn(types, ",");
    return type_is_valid((struct slice){ types, n }) && (types[n] == '\0' || are_types(types + n + 1));
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

struct typed {
    char text[PASSWORD_BYTES_MAX + 3]; /* one that is too long is seen to be, with its line's end */
};

static bool read_line(FILE *from, struct typed *typed)
{
    bool read = fgets(typed->text, sizeof typed->text, from) != NULL;
    typed->text[read ? strcspn(typed->text, "\r\n") : 0] = '\0';
    return read;
}

/* From the terminal, unseen, whatever stdin and stdout are. */
static bool read_unseen(FILE *terminal, const char *prompt, struct typed *typed)
{
    struct termios before, unseen;
    int fd = fileno(terminal);
    bool hides = tcgetattr(fd, &before) == 0;
    fputs(prompt, stderr);
    if (hides) {
        unseen = before;
        unseen.c_lflag &= ~(tcflag_t)ECHO;
        hides = tcsetattr(fd, TCSAFLUSH, &unseen) == 0;
    }
    bool read = read_line(terminal, typed);
    if (hides) {
        (void)tcsetattr(fd, TCSAFLUSH, &before);
    }
    fputc('\n', stderr);
    return read;
}

/* Returns what is wrong, or NULL. */
static const char *read_twice(struct typed *typed)
{
    struct typed again = { "" };
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    FILE *terminal = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (terminal == NULL) {
        return "there is no terminal to read the password from";
    }
    bool read = read_unseen(terminal, "Password: ", typed) && read_unseen(terminal, "Once more: ", &again);
    fclose(terminal);
    bool same = strcmp(typed->text, again.text) == 0;
    explicit_bzero(&again, sizeof again);
    return !read ? "no password was given" : same ? NULL : "the two are not the same";
}

/* What devices can send, and people can see. */
static const char *complain(const char *password)
{
    size_t n = strlen(password);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)password[i] < ' ' || password[i] == 0x7f) {
            return "the password has control characters in it";
        }
    }
    return n == 0 ? "the password is empty" : n > PASSWORD_BYTES_MAX ? "the password is longer than 128 bytes" : NULL;
}

/* --- the line ----------------------------------------------------------------------------------------------------- */

static void print(const struct cli *cli, const char *line, const char *drawn)
{
    if (cli->json) {
        json_t *document = must(json_pack("{s:s, s:s*}", "line", line, "password", drawn));
        cli_print_json(document);
        json_decref(document);
        return;
    }
    puts(line);
    fflush(stdout);
    if (drawn != NULL) {
        fprintf(stderr, "The password is %s\nThis is the only time that it is shown: it belongs into the sketch.\n",
                drawn);
    }
}

static enum cli_exit run(struct cli *cli)
{
    const char *name = cli->args->words[0], *types = args_get(cli->args, "type"), *why = NULL;
    bool draws = args_has(cli->args, "random");
    struct typed typed = { "" };
    struct password_hash hash;
    char text[PASSWORD_HASH_TEXT_SIZE], line[4096], drawn[PASSWORD_DRAWN_SIZE];
    if (!is_user(name) || (types != NULL && !are_types(types))) {
        char shown[200], problem[300];
        shown_text(is_user(name) ? types : name, shown, sizeof shown);
        snprintf(problem, sizeof problem, "\"%s\" %s", shown,
                 is_user(name) ? "is no list of types" : "cannot be a user's name");
        shown_problem(cli->program, problem,
                      !is_user(name) ? "use 1 to 64 letters, digits, \"-\" and \"_\""
                                     : "write them as in the files' names, with commas between");
        return CLI_USAGE;
    }
    if (draws) {
        why = password_draw(drawn) ? NULL : "no random numbers are to be had";
    } else if (isatty(STDIN_FILENO)) {
        why = read_twice(&typed);
    } else {
        why = read_line(stdin, &typed) ? NULL : "no password was given";
    }
    const char *password = draws ? drawn : typed.text;
    why = why != NULL ? why : complain(password);
    if (why == NULL && !password_hash_make((struct slice){ password, strlen(password) },
                                           draws ? PASSWORD_ROUNDS_DRAWN : PASSWORD_ROUNDS_TYPED, &hash)) {
        why = "the password could not be hashed";
    }
    if (why == NULL) {
        password_hash_print(&hash, text);
        bool fits = (size_t)snprintf(line, sizeof line, "%s:%s%s%s", name, text, types != NULL ? ":" : "",
                                     types != NULL ? types : "") < sizeof line;
        why = fits ? NULL : "the types are too many for one line";
    }
    if (why == NULL) {
        print(cli, line, draws ? drawn : NULL);
    } else {
        cli_say_error(cli, "bad-password", why, "write the password as the only line, or let --random draw one");
    }
    explicit_bzero(&typed, sizeof typed);
    explicit_bzero(drawn, sizeof drawn);
    return why == NULL ? CLI_DONE : CLI_FAILED;
}

const struct verb verb_device_password = {
    .name = "device-password",
    .words = "NAME",
    .words_min = 1,
    .words_max = 1,
    .flags = flags,
    .summary = "print the line that lets devices in by user and password",
    .more = "The password is read from the terminal, or from stdin. Append the line to the file of updraftd's "
            "--device-passwords, and send SIGHUP.",
    .run = run,
};
