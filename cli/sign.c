/* sign: makes the signatures that --signing-key asks for, and the keys. Asks no server: the private key stays here.
 *
 * What makes it hard: an ESP8266 verifies what is appended to its sketch, all else is vouched for by a file beside it;
 * so the bytes decide, by the same check that the server makes.
 */
#include "base/file.h"
#include "cli/shown.h"
#include "cli/verb.h"
#include "proto/signature.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_FILE_MAX (64u << 10)

static const struct flag flags[] = {
    { "key", FLAG_TEXT, "FILE",
      "the private key, PEM: RSA, or Ed25519 for detached signatures; a passphrase is asked for" },
    { "detached", FLAG_SWITCH, "", "write FILE.sig also of an ESP8266 sketch" },
    { "trailer", FLAG_SWITCH, "",
      "write FILE.signed also of an ESP8266 file system, for sketches that have the key: they ask it of these, too" },
    { "new-key", FLAG_TEXT, "NAME", "make a pair of keys instead: NAME.pem, to be kept secret, and NAME.pub.pem" },
    { "kind", FLAG_CHOICE, "rsa|ed25519", "of the new key: rsa (default, 2048 bits, which ESP8266 need), or ed25519" },
    COMMON_FLAGS,
};

static bool fail(const struct cli *cli, const char *file, const char *why, const char *remedy)
{
    char message[PATH_MAX + 512];
    snprintf(message, sizeof message, "%s: %s", file, why);
    cli_say_error(cli, "not-signed", message, remedy);
    return false;
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static bool read_whole(const struct cli *cli, const char *file, size_t max, char **bytes, size_t *n)
{
    enum status status = file_read(file, max, bytes, n);
    if (status == STATUS_OK) {
        return true;
    }
    return fail(cli, file, status == STATUS_INVALID ? "not a plain file" : status_text(status),
                "name a file that you may read");
}

/* A file that was not there: nothing is ever overwritten. */
static bool write_new(const struct cli *cli, const char *file, mode_t mode, const struct slice *parts, size_t count,
                      const char *remedy)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) {
        return fail(cli, file, errno == EEXIST ? "is there already" : strerror(errno), errno == EEXIST ? remedy : "");
    }
    bool good = true;
    for (size_t i = 0; i < count && good; i++) {
        struct slice rest = parts[i];
        while (rest.len > 0 && good) {
            ssize_t n = write(fd, rest.at, rest.len);
            good = n > 0 || (n < 0 && errno == EINTR);
            rest = n > 0 ? (struct slice){ rest.at + n, rest.len - (size_t)n } : rest;
        }
    }
    good = good && fsync(fd) == 0;
    int error = errno;
    good = close(fd) == 0 && good;
    if (!good) {
        (void)unlink(file);
        return fail(cli, file, strerror(error), "make room for it");
    }
    return true;
}

static bool name_beside(const struct cli *cli, const char *file, const char *suffix, char name[PATH_MAX])
{
    return snprintf(name, PATH_MAX, "%s%s", file, suffix) < PATH_MAX || fail(cli, file, "the name is too long", "");
}

/* --- the private key ---------------------------------------------------------------------------------------------- */

static int ask_passphrase(char *to, int size, int is_new, void *owner)
{
    char prompt[PATH_MAX + 32];
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    (void)is_new;
    if (terminal < 0) {
        return -1;
    }
    close(terminal);
    snprintf(prompt, sizeof prompt, "Passphrase of %s: ", (const char *)owner);
    return EVP_read_pw_string(to, size, prompt, 0) == 0 ? (int)strlen(to) : -1;
}

static struct signature_private *read_key(const struct cli *cli, const char *file)
{
    char *pem = NULL, why[300], name[PATH_MAX];
    size_t n = 0;
    if (!read_whole(cli, file, KEY_FILE_MAX, &pem, &n)) {
        return NULL;
    }
    shown_text(file, name, sizeof name);
    struct signature_private *key =
        signature_private_read((struct slice){ pem, n }, ask_passphrase, name, why, sizeof why);
    file_forget(pem, n);
    if (key == NULL) {
        (void)fail(cli, file, why, "");
    }
    return key;
}

static void print_pair(const struct cli *cli, const char *private, const char *public, bool ed25519)
{
    if (cli->json) {
        json_t *document = must(json_pack("{s:s, s:s}", "private", private, "public", public));
        cli_print_json(document);
        json_decref(document);
        return;
    }
    printf("made ");
    shown_print(stdout, private);
    printf(", which signs: keep it secret and off the server\n     ");
    shown_print(stdout, public);
    printf(", for --signing-key of updraftd%s\n",
           ed25519 ? "; no ESP8266 can verify what it signs (`--kind rsa` for that)" : ", and for the sketch");
}

static enum cli_exit make_pair(const struct cli *cli, const char *name)
{
    static const char remedy[] =
        "choose another NAME: devices may have its public key, and nothing signs for them without it";
    const char *kind = args_get(cli->args, "kind");
    bool ed25519 = kind != NULL && strcmp(kind, "ed25519") == 0;
    char private[PATH_MAX], public[PATH_MAX];
    if (!name_beside(cli, name, ".pem", private) || !name_beside(cli, name, ".pub.pem", public)) {
        return CLI_FAILED;
    }
    struct signature_private *key = must(signature_private_make(ed25519));
    char *secret = must(signature_private_pem(key)), *shown = must(signature_public_pem(key));
    struct slice secret_part = slice_of(secret), shown_part = slice_of(shown);
    bool good = write_new(cli, private, 0600, &secret_part, 1, remedy);
    if (good && !write_new(cli, public, 0644, &shown_part, 1, remedy)) {
        (void)unlink(private); /* made here a moment ago */
        good = false;
    }
    signature_pem_free(secret);
    signature_pem_free(shown);
    signature_private_free(key);
    if (good) {
        print_pair(cli, private, public, ed25519);
    }
    return good ? CLI_DONE : CLI_FAILED;
}

/* --- signing ------------------------------------------------------------------------------------------------------ */

/* What it is, by the check that the server makes; its name says nothing here. */
static bool recognise(const struct cli *cli, const char *file, const uint8_t *bytes, size_t n,
                      struct image_facts *facts)
{
    static const enum image_use uses[] = { IMAGE_USE_SKETCH, IMAGE_USE_FS, IMAGE_USE_SLOT };
    struct image_verdict verdict = { .fault = IMAGE_FAULT_WRONG_USE };
    for (size_t i = 0; i < sizeof uses / sizeof uses[0] && verdict.fault == IMAGE_FAULT_WRONG_USE; i++) {
        if (image_check(bytes, n, uses[i], facts, &verdict)) {
            return true;
        }
    }
    return fail(cli, file, verdict.detail, verdict.remedy);
}

/* What is written: beside the file, or in its place with the signature behind it. */
struct form {
    bool trailer;
    size_t n; /* of the file's bytes that are signed, and come before a trailer */
    char name[PATH_MAX];
};

/* BearSSL, with which ESP8266 verify, has room for no larger key (inner.h, BR_MAX_RSA_SIZE). */
#define DEVICE_RSA_BITS_MAX 4096

static bool is_for_device(const struct cli *cli, const struct signature_private *key, const char *file)
{
    static const char remedy[] =
        "sign it with an RSA key of 2048 to 4096 bits; or, for the server alone, with --detached";
    if (!signature_private_is_rsa(key)) {
        return fail(cli, file, "is for ESP8266, and the key is no RSA key, which alone these devices verify", remedy);
    }
    return signature_private_bits(key) <= DEVICE_RSA_BITS_MAX ||
           fail(cli, file, "is for ESP8266, and the key has more bits than these devices verify", remedy);
}

/* Of a file system the last block gives way to the trailer. A compressed one has room. */
static bool make_room(const struct cli *cli, const char *file, const uint8_t *bytes, const struct image_facts *facts,
                      size_t *n)
{
    bool is_fs = facts->kind == IMAGE_LITTLEFS || facts->kind == IMAGE_SPIFFS;
    if (facts->signature_bytes > 0) {
        return fail(cli, file, "has a signature in it already", "sign the .bin as the build wrote it");
    }
    if (facts->kind == IMAGE_ESP8266 || (is_fs && facts->gzip)) {
        return true;
    }
    switch (is_fs ? image_fs_room(bytes, facts, n) : IMAGE_ROOM_UNWANTED) {
    case IMAGE_ROOM:
        return true;
    case IMAGE_ROOM_NONE:
        return fail(cli, file, "is in use to its end, where the trailer needs an empty block",
                    "put fewer files in it; or, for the server alone, sign it without --trailer");
    default:
        return fail(cli, file, "is for ESP32 or a native SDK, which ask no trailer", "sign it without --trailer");
    }
}

static bool choose_form(const struct cli *cli, const struct signature_private *key, const char *file,
                        const uint8_t *bytes, const struct image_facts *facts, struct form *form)
{
    form->n = (size_t)facts->file_bytes;
    form->trailer =
        args_has(cli->args, "trailer") || (facts->kind == IMAGE_ESP8266 && !args_has(cli->args, "detached"));
    return (!form->trailer || (make_room(cli, file, bytes, facts, &form->n) && is_for_device(cli, key, file))) &&
           name_beside(cli, file, form->trailer ? ".signed" : ".sig", form->name);
}

static void print_done(const struct form *form, size_t n, const char *shown)
{
    printf("wrote %s: %s\n", shown,
           form->trailer ? "serve this file instead, under the name of the image (without .signed)"
                         : "put it beside the image, under the image's name there and .sig");
    if (form->n < n) {
        printf("  its last %zu bytes, which were empty, gave way to the signature: so it fits the same partition\n",
               n - form->n);
    }
}

static bool sign_bytes(const struct cli *cli, const struct signature_private *key, const char *file, struct slice image,
                       json_t *done)
{
    struct image_facts facts;
    struct form form;
    uint8_t signature[SIGNATURE_BYTES_MAX];
    const uint8_t *bytes = (const uint8_t *)image.at;
    char shown[PATH_MAX];
    if (!recognise(cli, file, bytes, image.len, &facts) || !choose_form(cli, key, file, bytes, &facts, &form)) {
        return false;
    }
    size_t n = signature_make(key, bytes, form.n, signature);
    if (n == 0) {
        return fail(cli, file, "the signature could not be made", "is there memory left?");
    }
    const char length[4] = { (char)(n & 0xff), (char)(n >> 8 & 0xff), 0, 0 };
    const struct slice parts[] = { { image.at, form.n }, { (const char *)signature, n }, { length, sizeof length } };
    bool whole = form.trailer;
    if (!write_new(cli, form.name, 0644, whole ? parts : parts + 1, whole ? 3 : 1,
                   "remove it, if it is no longer wanted")) {
        return false;
    }
    shown_text(form.name, shown, sizeof shown);
    json_array_append_new(done,
                          must(json_pack("{s:s, s:s}", "file", shown, "form", form.trailer ? "trailer" : "detached")));
    if (!cli->json) {
        print_done(&form, image.len, shown);
    }
    return true;
}

static enum cli_exit sign_files(const struct cli *cli, const struct signature_private *key)
{
    json_t *done = must(json_array());
    bool good = true;
    for (size_t i = 0; i < cli->args->word_count && good; i++) {
        char *bytes = NULL;
        size_t n = 0;
        const char *file = cli->args->words[i];
        good = read_whole(cli, file, IMAGE_BYTES_MAX, &bytes, &n) &&
               sign_bytes(cli, key, file, (struct slice){ bytes, n }, done);
        free(bytes);
    }
    if (good && cli->json) {
        json_t *document = must(json_pack("{s:O}", "signed", done));
        cli_print_json(document);
        json_decref(document);
    }
    json_decref(done);
    return good ? CLI_DONE : CLI_FAILED;
}

static enum cli_exit run(struct cli *cli)
{
    const char *name = args_get(cli->args, "new-key"), *file = args_get(cli->args, "key");
    bool makes = name != NULL;
    if (args_has(cli->args, "detached") && args_has(cli->args, "trailer")) {
        shown_problem(cli->program, "--detached and --trailer are two forms", "give one of them, for each its files");
        return CLI_USAGE;
    }
    if (makes ? file != NULL || cli->args->word_count > 0 : file == NULL || cli->args->word_count == 0) {
        shown_problem(cli->program, makes ? "--new-key makes keys alone" : "a key and files are needed",
                      "updraft sign --key PRIVATE.pem FILE..., or updraft sign --new-key NAME");
        return CLI_USAGE;
    }
    if (makes) {
        return make_pair(cli, name);
    }
    struct signature_private *key = read_key(cli, file);
    enum cli_exit code = key != NULL ? sign_files(cli, key) : CLI_FAILED;
    signature_private_free(key);
    return code;
}

const struct verb verb_sign = {
    .name = "sign",
    .words = "FILE...",
    .words_max = ARGS_WORDS_MAX,
    .flags = flags,
    .summary = "sign images for a server with --signing-key; asks no server",
    .more =
        "Of an ESP8266 sketch, compressed or not, it writes FILE.signed, the image with the trailer that the device "
        "checks; of anything else FILE.sig. Nothing is overwritten.",
    .run = run,
};
