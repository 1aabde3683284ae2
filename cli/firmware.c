/* firmware: what lies in the repository, what was rejected and why; adding and removing. The server checks and places:
 * nothing here decides what a good image is. */
#include "base/file.h"
#include "cli/progress.h"
#include "cli/shown.h"
#include "cli/table.h"
#include "cli/verb.h"
#include "proto/signature.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FIRMWARE         "/api/v1/firmware"
#define UPLOAD_BYTES_MAX (32u << 20) /* the server's limit; said before anything is sent */

/* --- ls ----------------------------------------------------------------------------------------------------------- */

static const struct flag ls_flags[] = {
    { "type", FLAG_TEXT, "T", "list this type alone, such as d1_mini" },
    COMMON_FLAGS,
};

/* Whether it is what its type gets: the newest, unless a rollout went back. */
static const char *standing_of(const json_t *image)
{
    bool is_kept = field_text(image, "kept_by")[0] != '\0';
    if (field_true(image, "newest")) {
        return is_kept ? "newest, not offered" : "newest";
    }
    return is_kept ? "kept" : "";
}

static void add_image(struct table *table, const json_t *image)
{
    char size[SHOWN_SIZE], md5[9], kind[48];
    bool gzip = field_true(image, "gzip");
    snprintf(md5, sizeof md5, "%.8s", field_text(image, "md5"));
    snprintf(kind, sizeof kind, "%s%s", field_text(image, "kind"), gzip ? ".gz" : "");
    const char *label = field_text(image, "label"), *version = field_text(image, "version");
    table_row(table, (const char *const[]){
                         field_text(image, "file"),
                         field_text(image, "type"),
                         version[0] != '\0' ? version : label,
                         kind,
                         field_text(image, "chip"),
                         shown_bytes(field_number(image, "bytes"), size),
                         md5,
                         standing_of(image),
                     });
    if (field_text(image, "kept_by")[0] != '\0' && !field_true(image, "newest")) {
        char note[80];
        snprintf(note, sizeof note, "rollout %s keeps the type on it", field_text(image, "kept_by"));
        table_note(table, note);
    }
}

static void print_left_out(const json_t *reply)
{
    uint64_t rejected = field_number(reply, "rejected");
    if (rejected > 0) {
        printf("%" PRIu64 " file%s rejected, and never served: \"updraft firmware rejected\" says why\n", rejected,
               rejected == 1 ? " is" : "s are");
    }
}

static void print_images(const struct cli *cli, const json_t *reply)
{
    static const struct table_column columns[] = {
        { "FILE", TABLE_LEFT }, { "TYPE", TABLE_LEFT },  { "VERSION", TABLE_LEFT }, { "KIND", TABLE_LEFT },
        { "CHIP", TABLE_LEFT }, { "SIZE", TABLE_RIGHT }, { "MD5", TABLE_LEFT },     { "", TABLE_LEFT },
    };
    const json_t *images = json_object_get(reply, "images"), *image;
    if (json_array_size(images) == 0) {
        puts(args_has(cli->args, "type")
                 ? "no images of this type; \"updraft firmware ls\" lists all"
                 : "no images; \"updraft firmware add\" adds one, \"updraft firmware rejected\" "
                   "lists files that are none");
        print_left_out(reply);
        return;
    }
    struct table *table = table_new(columns, sizeof columns / sizeof columns[0]);
    size_t i;
    json_array_foreach(images, i, image)
    {
        add_image(table, image);
    }
    table_print(table, stdout);
    table_free(table);
    print_left_out(reply);
}

static enum cli_exit run_ls(struct cli *cli)
{
    struct api_path path;
    json_t *reply = NULL;
    api_path_begin(&path, FIRMWARE);
    api_path_query(&path, "type", args_get(cli->args, "type"));
    enum api_result result = api_get_all(cli->api, &path, "images", &reply);
    return cli_answer(cli, result, reply, print_images);
}

/* --- rejected ----------------------------------------------------------------------------------------------------- */

static const struct flag plain_flags[] = { COMMON_FLAGS };

static void print_rejected(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    static const struct table_column columns[] = { { "FILE", TABLE_LEFT },
                                                   { "FAULT", TABLE_LEFT },
                                                   { "DETAIL", TABLE_LEFT } };
    const json_t *files = json_object_get(reply, "files"), *file;
    if (json_array_size(files) == 0) {
        puts("no file is rejected");
        return;
    }
    struct table *table = table_new(columns, 3);
    size_t i;
    json_array_foreach(files, i, file)
    {
        table_row(table, (const char *const[]){ field_text(file, "file"), field_text(file, "fault"),
                                                field_text(file, "detail") });
        table_note(table, field_text(file, "remedy"));
    }
    table_print(table, stdout);
    table_free(table);
}

static enum cli_exit run_rejected(struct cli *cli)
{
    struct api_path path;
    json_t *reply = NULL;
    api_path_begin(&path, FIRMWARE "/rejected");
    enum api_result result = api_call(cli->api, "GET", &path, NULL, &reply);
    return cli_answer(cli, result, reply, print_rejected);
}

/* --- add ---------------------------------------------------------------------------------------------------------- */

static const struct flag add_flags[] = {
    { "type", FLAG_TEXT, "T", "the type that it is for, such as d1_mini (needed)" },
    { "version", FLAG_TEXT, "V", "its version, such as 0.4.10 (needed)" },
    { "kind", FLAG_CHOICE, "sketch|fs|user1|user2",
      "what it is: a sketch (default), a file system, or a slot of a native-SDK image" },
    { "sig", FLAG_TEXT, "FILE", "its detached signature (default: FILE.sig beside it, where there is one)" },
    { "replace", FLAG_SWITCH, "", "add it also where the type has this version already" },
    COMMON_FLAGS,
};

static bool cannot_read(const struct cli *cli, const char *file, const char *why, const char *remedy)
{
    char message[1200];
    snprintf(message, sizeof message, "%.1000s: %s", file, why);
    shown_problem(cli->program, message, remedy);
    return false;
}

/* The size of what can be an image at all; says why it cannot. */
static bool check_file(const struct cli *cli, const char *file, int fd, size_t *size)
{
    struct stat status;
    char why[128], size_text[SHOWN_SIZE];
    if (fstat(fd, &status) != 0) {
        return cannot_read(cli, file, strerror(errno), "");
    }
    if (!S_ISREG(status.st_mode)) {
        return cannot_read(cli, file, S_ISDIR(status.st_mode) ? "that is a folder" : "that is no file",
                           "name the image, such as build/door.ino.bin");
    }
    if (status.st_size == 0) {
        return cannot_read(cli, file, "the file is empty", "export the sketch again");
    }
    if (status.st_size > UPLOAD_BYTES_MAX) {
        snprintf(why, sizeof why, "%s is more than any image has (32 MiB)",
                 shown_bytes((uint64_t)status.st_size, size_text));
        return cannot_read(cli, file, why, "name the image itself, not an archive or a dump of a flash chip");
    }
    *size = (size_t)status.st_size;
    return true;
}

/* The file's bytes, to be freed; false where it cannot be read, which is said. */
static bool read_file(const struct cli *cli, const char *file, char **bytes, size_t *size)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would wait for ever */
    if (fd < 0) {
        return cannot_read(cli, file, strerror(errno),
                           errno == ENOENT ? "name the image, such as build/door.ino.bin"
                                           : "name a file that you may read");
    }
    bool read_whole = check_file(cli, file, fd, size);
    if (read_whole) {
        *bytes = must(malloc(*size));
        size_t got = 0;
        ssize_t n;
        while (got < *size && (n = read(fd, *bytes + got, *size - got)) > 0) {
            got += (size_t)n;
        }
        if (got < *size) {
            free(*bytes);
            *bytes = NULL;
            read_whole =
                cannot_read(cli, file, "it became shorter while it was read", "wait until it is written whole");
        }
    }
    close(fd);
    return read_whole;
}

/* Appends the detached signature to the image's bytes: the one that is named, or the one beside it. *n: its length, 0 =
 * there is none. False where it cannot be read, which is said. */
static bool append_signature(const struct cli *cli, const char *file, char **bytes, size_t size, size_t *n)
{
    const char *named = args_get(cli->args, "sig");
    char beside[4096], *signature = NULL;
    *n = 0;
    if (named == NULL && snprintf(beside, sizeof beside, "%s.sig", file) >= (int)sizeof beside) {
        return true;
    }
    const char *sig = named != NULL ? named : beside;
    enum status status = file_read(sig, SIGNATURE_BYTES_MAX, &signature, n);
    if (status == STATUS_NOT_FOUND && named == NULL) {
        return true;
    }
    if (status == STATUS_OK && *n > 0) {
        *bytes = must(realloc(*bytes, size + *n));
        memcpy(*bytes + size, signature, *n);
    }
    free(signature);
    if (status != STATUS_OK || *n == 0) {
        return cannot_read(cli, sig, status == STATUS_OK ? "the file is empty" : status_text(status),
                           "name a signature, as \"updraft sign --detached\" writes it");
    }
    return true;
}

#define DRAW_INTERVAL_NS 100000000

struct upload {
    struct live live;
    struct timespec drawn;
};

/* Whether it is time to draw again; libcurl reports each piece that it sent. */
static bool is_due(struct upload *upload)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long passed = (now.tv_sec - upload->drawn.tv_sec) * 1000000000LL + now.tv_nsec - upload->drawn.tv_nsec;
    if (passed < DRAW_INTERVAL_NS) {
        return false;
    }
    upload->drawn = now;
    return true;
}

static void on_sent(void *owner, uint64_t sent, uint64_t total)
{
    struct upload *upload = owner;
    struct block block = { .count = 1 };
    if (!is_due(upload) && sent < total) {
        return;
    }
    char bar[64], a[SHOWN_SIZE], b[SHOWN_SIZE];
    size_t width = live_width(&upload->live);
    progress_bar((double)sent / (double)total, width > 60 ? 40 : 10, bar, sizeof bar);
    int n = snprintf(block.lines[0], width < BLOCK_LINE_BYTES ? width : BLOCK_LINE_BYTES, "%s %s of %s%s", bar,
                     shown_bytes(sent, a), shown_bytes(total, b), sent == total ? ", being checked" : "");
    block.columns[0] = (size_t)n < width ? (size_t)n : width - 1;
    live_draw(&upload->live, &block);
}

static void print_added(const struct cli *cli, const json_t *image)
{
    (void)cli;
    static const char *const members[] = { "chip", "bytes", "md5", NULL };
    static const struct {
        const char *kind, *words;
    } kinds[] = { { "fs", "file system, " }, { "user1", "slot user1, " }, { "user2", "slot user2, " } };
    char text[256];
    const char *words = "";
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        words = strcmp(field_text(image, "kind"), kinds[i].kind) == 0 ? kinds[i].words : words;
    }
    cli_image_text(image, members, text, sizeof text);
    printf("added ");
    shown_print(stdout, field_text(image, "file"));
    printf(": %s", words);
    shown_print(stdout, text);
    putchar('\n');
}

/* The last `signature` bytes are the detached signature. */
static enum cli_exit upload_image(struct cli *cli, const char *bytes, size_t size, size_t signature)
{
    char number[24];
    struct api_path path;
    struct upload upload = { 0 };
    static const struct block nothing;
    json_t *reply = NULL;
    api_path_begin(&path, FIRMWARE);
    api_path_query(&path, "type", args_get(cli->args, "type"));
    api_path_query(&path, "version", args_get(cli->args, "version"));
    api_path_query(&path, "kind", args_get(cli->args, "kind"));
    api_path_query(&path, "replace", args_has(cli->args, "replace") ? "yes" : NULL);
    snprintf(number, sizeof number, "%zu", signature);
    api_path_query(&path, "signature", signature > 0 ? number : NULL);
    bool is_live = live_begin(&upload.live, stdout) && !cli->json;
    enum api_result result = api_upload(cli->api, &path, bytes, size, is_live ? on_sent : NULL, &upload, &reply);
    if (is_live) {
        live_draw(&upload.live, &nothing);
    }
    const struct api_problem *problem = api_problem(cli->api);
    const json_t *error = json_object_get(problem->document, "error");
    if (result == API_REFUSED && strcmp(field_text(error, "fault"), "wrong-kind") == 0) {
        if (cli->json) {
            cli_print_json(problem->document);
        }
        shown_problem(cli->program, problem->message,
                      "say --kind fs of a file system, and leave --kind out for a sketch: its name is made from it");
        return CLI_FAILED;
    }
    return cli_answer(cli, result, reply, print_added);
}

static enum cli_exit run_add(struct cli *cli)
{
    static const char *const needed[] = { "type", "version" };
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (!args_has(cli->args, needed[i])) {
            char message[64];
            snprintf(message, sizeof message, "--%s is missing", needed[i]);
            shown_problem(cli->program, message, "updraft firmware add FILE --type T --version V");
            return CLI_USAGE;
        }
    }
    char *bytes = NULL;
    size_t size, signature;
    const char *file = cli->args->words[0];
    enum cli_exit code = CLI_FAILED;
    if (read_file(cli, file, &bytes, &size) && append_signature(cli, file, &bytes, size, &signature)) {
        code = upload_image(cli, bytes, size + signature, signature);
    }
    free(bytes);
    return code;
}

/* --- rm ----------------------------------------------------------------------------------------------------------- */

static const struct flag rm_flags[] = {
    { "force", FLAG_SWITCH, "", "remove it also while it is being rolled out" },
    COMMON_FLAGS,
};

static void print_removed(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    printf("removed ");
    shown_print(stdout, field_text(reply, "removed"));
    putchar('\n');
}

static enum cli_exit run_rm(struct cli *cli)
{
    struct api_path path;
    json_t *reply = NULL;
    api_path_begin(&path, FIRMWARE);
    api_path_name(&path, cli->args->words[0]);
    api_path_query(&path, "force", args_has(cli->args, "force") ? "yes" : NULL);
    enum api_result result = api_call(cli->api, "DELETE", &path, NULL, &reply);
    return cli_answer(cli, result, reply, print_removed);
}

const struct verb verb_firmware_ls = {
    .name = "firmware",
    .sub = "ls",
    .words = "",
    .flags = ls_flags,
    .summary = "list the images that are served",
    .more = "",
    .run = run_ls,
};
const struct verb verb_firmware_add = {
    .name = "firmware",
    .sub = "add",
    .words = "FILE --type T --version V",
    .words_min = 1,
    .words_max = 1,
    .flags = add_flags,
    .summary = "upload an image; the server checks and places it",
    .more =
        "It becomes TYPE/VERSION.bin of the repository, and is served when this ends. A file compressed with gzip is "
        "recognised. At most 32 MiB. Its detached signature goes with it, so that it is never there unsigned.",
    .run = run_add,
};
const struct verb verb_firmware_rm = {
    .name = "firmware",
    .sub = "rm",
    .words = "FILE",
    .words_min = 1,
    .words_max = 1,
    .flags = rm_flags,
    .summary = "remove an image, named as \"firmware ls\" lists it",
    .more = "Who relied on it is named: devices that are pinned or assigned to it, and a rollout that gives it.",
    .run = run_rm,
};
const struct verb verb_firmware_rejected = {
    .name = "firmware",
    .sub = "rejected",
    .words = "",
    .flags = plain_flags,
    .summary = "list the files that are not served, why, and what to do",
    .more = "",
    .run = run_rejected,
};
