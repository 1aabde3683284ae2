/* The decision: every row of its table of rules, the order of the rows, and the figures of each refusal.
 *
 * A case says in what it differs from one standard situation: an ESP8266 with 4 MiB of flash and 1 MiB of room, which
 * says that it runs 1.0.0, and an uncompressed image 1.1.0 that would suit it. What makes it hard: a case must
 * differ in one thing, or it would not tell which row decided.
 */
#include "proto/decision.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define MIB             (1u << 20)

/* --- the standard situation -------------------------------------------------------------------------------------- */

enum form { NOTHING, PLAIN, GZIP };

struct fixture {
    struct device_request request;
    struct build plain, gzip, running;
    struct decision_input in;
};

static struct version version_of(const char *text)
{
    struct version version = { .text = "" };
    if (text[0] != '\0') {
        assert_int_equal(version_parse(slice_of(text), &version), STATUS_OK);
    }
    return version;
}

static void say(struct fixture *f, const char *label)
{
    f->request.label = label[0] != '\0' ? slice_of(label) : (struct slice){ NULL, 0 };
    memset(&f->request.version, 0, sizeof f->request.version);
    (void)version_parse(f->request.label, &f->request.version);
}

/* A build whose four digests differ in their first byte; `seed` keeps two builds apart. */
static struct build build_of(const char *version, uint8_t seed)
{
    struct build build = { .version = version_of(version) };
    build.facts = (struct image_facts){
        .kind = IMAGE_ESP8266,
        .chip = CHIP_ESP8266,
        .flash_bytes = MIB,
        .file_bytes = 400000,
        .image_bytes = 400000,
    };
    for (uint8_t mode = 0; mode < IMAGE_FLASH_MODES; mode++) {
        memset(build.facts.run_md5[mode], seed, 16);
        build.facts.run_md5[mode][0] = (uint8_t)(seed + mode);
    }
    memset(build.facts.run_sha256, seed, 32);
    return build;
}

static void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->request.client = CLIENT_ESP8266;
    f->request.chip = CHIP_ESP8266;
    f->request.has_mac = true;
    f->request.free_bytes = MIB;
    f->request.flash_bytes = 4 * MIB;
    say(f, "1.0.0");
    f->plain = build_of("1.1.0", 0x10);
    f->gzip = f->plain;
    f->gzip.facts.gzip = true;
    f->gzip.facts.file_bytes = 300000;
    f->running = build_of("1.0.0", 0x40);
    f->in = (struct decision_input){
        .request = &f->request,
        .offer = { .plain = &f->plain },
        .missing = REASON_NO_IMAGE,
        .running_flash_mode = FLASH_MODE_UNKNOWN,
    };
}

/* --- differences ------------------------------------------------------------------------------------------------- */

enum digest { DIGEST_NONE, DIGEST_OF_OFFER, SHA256_OF_OFFER };
enum client { AS_ESP8266, AS_ESP32, AS_PLAIN };

/* Zero everywhere is the standard situation. */
struct difference {
    const char *name;
    /* the request */
    enum client client;
    enum device_mode mode;
    const char *says; /* "" = nothing */
    enum digest digest;
    uint8_t digest_mode;    /* which of the four */
    const char *runs;       /* the version of the build that its digest names */
    const char *runs_label; /* the same, a build that only a label names */
    enum chip runs_chip;
    uint8_t runs_mode; /* the variant that matched, + 1 */
    uint64_t free_bytes, flash_bytes, sketch_bytes;
    bool silent; /* says neither room nor flash */
    /* the offer */
    enum { FORM_PLAIN, FORM_GZIP, FORM_BOTH } forms;
    const char *offers, *offers_label;
    enum chip chip;
    uint64_t wants_flash, file_bytes, gzip_bytes, image_bytes;
    uint32_t flash_mib;
    uint8_t flash_mode;
    /* the rest */
    const char *assigned;
    bool unconditional, guarded, fs_gzip;
    /* what is to come out */
    enum reason reason;
    enum form form;
    const char *detail; /* NULL = "" */
};

static void differ_request(struct fixture *f, const struct difference *d)
{
    struct device_request *r = &f->request;
    if (d->client != AS_ESP8266) {
        r->client = d->client == AS_ESP32 ? CLIENT_ESP32 : CLIENT_PLAIN;
        r->chip = CHIP_UNKNOWN;
    }
    r->mode = d->mode;
    if (d->says != NULL) {
        say(f, d->says);
    }
    r->sketch_bytes = d->sketch_bytes;
    r->free_bytes = d->silent ? 0 : d->free_bytes != 0 ? d->free_bytes : r->free_bytes;
    r->flash_bytes = d->silent ? 0 : d->flash_bytes != 0 ? d->flash_bytes : r->flash_bytes;
    r->has_md5 = d->digest == DIGEST_OF_OFFER;
    memcpy(r->sketch_md5, f->plain.facts.run_md5[d->digest_mode], 16);
    r->has_sha256 = d->digest == SHA256_OF_OFFER;
    memcpy(r->sketch_sha256, f->plain.facts.run_sha256, 32);
    if (d->runs != NULL || d->runs_label != NULL) {
        f->in.running = &f->running;
        f->running.version = version_of(d->runs != NULL ? d->runs : "");
        f->running.facts.chip = d->runs_chip != 0 ? d->runs_chip : f->running.facts.chip;
    }
    f->in.running_flash_mode = d->runs_mode != 0 ? (uint8_t)(d->runs_mode - 1) : FLASH_MODE_UNKNOWN;
}

static void differ_build(struct build *build, const struct difference *d)
{
    if (d->offers != NULL) {
        build->version = version_of(d->offers);
    }
    if (d->offers_label != NULL) {
        build->version = version_of("");
        strcpy(build->label, d->offers_label);
    }
    build->flash_mib = d->flash_mib;
    build->facts.chip = d->chip != 0 ? d->chip : build->facts.chip;
    build->facts.flash_bytes = d->wants_flash != 0 ? d->wants_flash : build->facts.flash_bytes;
    build->facts.image_bytes = d->image_bytes != 0 ? d->image_bytes : build->facts.image_bytes;
    build->facts.flash_mode = d->flash_mode;
    build->facts.has_run_sha256 = chip_is_esp32_family(build->facts.chip);
}

static void differ(struct fixture *f, const struct difference *d)
{
    differ_request(f, d);
    differ_build(&f->plain, d);
    differ_build(&f->gzip, d);
    f->plain.facts.file_bytes = d->file_bytes != 0 ? d->file_bytes : f->plain.facts.file_bytes;
    f->gzip.facts.file_bytes = d->gzip_bytes != 0 ? d->gzip_bytes : f->gzip.facts.file_bytes;
    f->in.offer.plain = d->forms != FORM_GZIP ? &f->plain : NULL;
    f->in.offer.gzip = d->forms != FORM_PLAIN ? &f->gzip : NULL;
    f->in.assigned = d->assigned;
    f->in.unconditional = d->unconditional;
    f->in.withheld = d->guarded;
    f->in.withheld_by = REASON_LOOP_GUARD;
    f->in.withheld_why = "sent again and again";
    f->in.assigned_by = REASON_ASSIGNED;
    f->in.fs_gzip = d->fs_gzip;
}

static void run_cases(const struct difference *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct difference *d = &cases[i];
        struct fixture f;
        struct decision decision;
        fixture_init(&f);
        differ(&f, d);
        memset(&decision, 0x5a, sizeof decision);
        decision_make(&f.in, &decision);
        enum form form = decision.build == NULL ? NOTHING : decision.build == &f.plain ? PLAIN : GZIP;
        const char *detail = d->detail != NULL ? d->detail : "";
        if (decision.reason != d->reason || form != d->form || strcmp(decision.detail, detail) != 0) {
            static const char *const forms[] = { "nothing", "plain", "gzip" };
            fail_msg("%s: %s, %s, \"%s\"", d->name, reason_word(decision.reason), forms[form], decision.detail);
        }
        assert_true(form == NOTHING || decision.build == &f.plain || decision.build == &f.gzip);
        assert_int_equal(decision_serves(&decision), reason_http_status(d->reason) == 200);
    }
}

/* --- what is served ---------------------------------------------------------------------------------------------- */

static const struct difference served[] = {
    { "the standard situation", .reason = REASON_NEWER, .form = PLAIN },
    { "a pre-release of the offer", .says = "1.1.0-rc1", .reason = REASON_NEWER, .form = PLAIN },
    { "numbers, not texts", .says = "1.9.0", .offers = "1.10.0", .reason = REASON_NEWER, .form = PLAIN },
    { "no version", .says = "", .reason = REASON_UNKNOWN_BUILD, .form = PLAIN },
    { "no version that can be read", .says = "nightly", .reason = REASON_UNKNOWN_BUILD, .form = PLAIN },
    { "a file system without version", .mode = DEVICE_MODE_FS, .says = "", .reason = REASON_UNKNOWN_BUILD,
      .form = PLAIN },
    { "a question for the version", .mode = DEVICE_MODE_VERSION, .reason = REASON_NEWER, .form = PLAIN },
    { "the simple updater", .client = AS_PLAIN, .says = "", .silent = true, .unconditional = true,
      .reason = REASON_LATEST, .form = PLAIN },
    { "an assigned build", .assigned = "1.1.0", .reason = REASON_ASSIGNED, .form = PLAIN },
    { "an old core that says nothing of its flash", .silent = true, .reason = REASON_NEWER, .form = PLAIN },
};

static void test_served(void **state)
{
    (void)state;
    run_cases(served, COUNT_OF(served));
}

/* Else an empty offer would be answered as if the device were up to date, or crash. */
static void test_nothing_to_offer(void **state)
{
    (void)state;
    static const enum reason reasons[] = { REASON_UNKNOWN_TYPE, REASON_NO_IMAGE, REASON_REJECTED,
                                           REASON_UNASSIGNED,   REASON_NOT_YET,  REASON_UNKNOWN_FILE };
    for (size_t i = 0; i < COUNT_OF(reasons); i++) {
        struct fixture f;
        struct decision decision;
        fixture_init(&f);
        f.in.offer.plain = NULL;
        f.in.missing = reasons[i];
        f.in.unconditional = true;
        memset(&decision, 0x5a, sizeof decision);
        decision_make(&f.in, &decision);
        assert_int_equal(decision.reason, reasons[i]);
        assert_null(decision.build);
        assert_string_equal(decision.detail, "");
        assert_false(decision_serves(&decision));
    }
}

/* --- nothing to do ----------------------------------------------------------------------------------------------- */

static const struct difference current[] = {
    /* The digest decides, whatever the label says: else a build with a wrong label would be sent for ever. */
    { "its digest, an older label", .digest = DIGEST_OF_OFFER, .reason = REASON_SAME_DIGEST, .form = PLAIN },
    { "its digest, a newer label", .digest = DIGEST_OF_OFFER, .says = "9.0", .reason = REASON_SAME_DIGEST,
      .form = PLAIN },
    { "its digest, the same label", .digest = DIGEST_OF_OFFER, .says = "1.1.0", .reason = REASON_SAME_DIGEST,
      .form = PLAIN },
    { "its digest, no label", .digest = DIGEST_OF_OFFER, .says = "", .reason = REASON_SAME_DIGEST, .form = PLAIN },
    { "its digest, and a catalog that calls it older", .digest = DIGEST_OF_OFFER, .runs = "0.1",
      .reason = REASON_SAME_DIGEST, .form = PLAIN },
    { "the updater wrote another flash mode", .digest = DIGEST_OF_OFFER, .digest_mode = 3, .reason = REASON_SAME_DIGEST,
      .form = PLAIN },
    { "the same of a compressed image", .digest = DIGEST_OF_OFFER, .digest_mode = 2, .forms = FORM_GZIP,
      .reason = REASON_SAME_DIGEST, .form = GZIP },
    { "an assigned build's digest", .digest = DIGEST_OF_OFFER, .assigned = "1.1.0", .reason = REASON_SAME_DIGEST,
      .form = PLAIN },
    { "its digest, asking for the version", .digest = DIGEST_OF_OFFER, .mode = DEVICE_MODE_VERSION,
      .reason = REASON_SAME_DIGEST, .form = PLAIN },
    { "an ESP32's MD5", .client = AS_ESP32, .chip = CHIP_ESP32_C3, .digest = DIGEST_OF_OFFER,
      .reason = REASON_SAME_DIGEST, .form = PLAIN },
    { "an ESP32's SHA-256 alone", .client = AS_ESP32, .chip = CHIP_ESP32_C3, .digest = SHA256_OF_OFFER,
      .reason = REASON_SAME_DIGEST, .form = PLAIN },
    { "a SHA-256 where the image has none", .digest = SHA256_OF_OFFER, .reason = REASON_NEWER, .form = PLAIN },
    /* A file system check carries the sketch's digest: it says nothing of the file system. */
    { "a file system, the sketch's digest", .mode = DEVICE_MODE_FS, .digest = DIGEST_OF_OFFER, .reason = REASON_NEWER,
      .form = PLAIN },
    { "a file system, a known sketch of the same version", .mode = DEVICE_MODE_FS, .runs = "1.1.0", .says = "",
      .reason = REASON_UNKNOWN_BUILD, .form = PLAIN },
    { "a file system, said to be current", .mode = DEVICE_MODE_FS, .runs = "0.9", .says = "1.1",
      .reason = REASON_UP_TO_DATE, .form = PLAIN },

    /* A digest of another known build: its version counts, not the label. */
    { "another build of that version", .runs = "1.1.0", .reason = REASON_UP_TO_DATE, .form = PLAIN },
    { "an older build under a newer label", .runs = "1.0.0", .says = "9.9", .reason = REASON_NEWER, .form = PLAIN },
    { "an older build under the offer's label", .runs = "1.0.0", .says = "1.1.0", .reason = REASON_NEWER,
      .form = PLAIN },
    { "a newer build under an older label", .runs = "1.2.0", .says = "0.1", .reason = REASON_DEVICE_NEWER,
      .form = PLAIN },
    { "a known build without a version", .runs_label = "DOOR-7", .says = "1.1.0", .reason = REASON_UP_TO_DATE,
      .form = PLAIN },

    { "the same version", .says = "1.1.0", .reason = REASON_UP_TO_DATE, .form = PLAIN },
    { "the same version in another spelling", .says = "v1_1", .reason = REASON_UP_TO_DATE, .form = PLAIN },
    { "a newer version", .says = "1.1.1", .reason = REASON_DEVICE_NEWER, .form = PLAIN },
    { "a release, offered a pre-release", .says = "2.0", .offers = "2.0beta", .reason = REASON_DEVICE_NEWER,
      .form = PLAIN },
};

static void test_nothing_to_do(void **state)
{
    (void)state;
    run_cases(current, COUNT_OF(current));
}

static const struct difference assigned[] = {
    /* Else an operator could not go back. */
    { "an older version", .assigned = "0.9.0", .offers = "0.9.0", .reason = REASON_ASSIGNED, .form = PLAIN },
    { "an older version, a newer one known", .assigned = "0.9.0", .offers = "0.9.0", .runs = "1.0.0",
      .reason = REASON_ASSIGNED, .form = PLAIN },
    { "no version said", .assigned = "0.9.0", .offers = "0.9.0", .says = "", .reason = REASON_ASSIGNED, .form = PLAIN },
    { "that version", .assigned = "0.9.0", .offers = "0.9.0", .says = "0.9.0", .reason = REASON_UP_TO_DATE,
      .form = PLAIN },
    { "that version in another spelling", .assigned = "0.9.0", .offers = "0.9.0", .says = "0_9",
      .reason = REASON_UP_TO_DATE, .form = PLAIN },
    { "that label", .assigned = "DOOR-7-g14f53a19", .offers_label = "DOOR-7-g14f53a19", .says = "DOOR-7-g14f53a19",
      .reason = REASON_UP_TO_DATE, .form = PLAIN },
    { "another label", .assigned = "DOOR-7-g14f53a19", .offers_label = "DOOR-7-g14f53a19", .says = "DOOR-7-g00000000",
      .reason = REASON_ASSIGNED, .form = PLAIN },
    { "a label in other letters", .assigned = "DOOR-7-g14f53a19", .offers_label = "DOOR-7-g14f53a19",
      .says = "door-7-g14f53a19", .reason = REASON_ASSIGNED, .form = PLAIN },
    /* The digest names another build: the label is believed no more. */
    { "that label on another build", .assigned = "DOOR-7", .offers_label = "DOOR-7", .says = "DOOR-7",
      .runs_label = "DOOR-6", .reason = REASON_ASSIGNED, .form = PLAIN },
    { "that version on another build", .assigned = "0.9.0", .offers = "0.9.0", .says = "0.9.0", .runs = "1.0.0",
      .reason = REASON_ASSIGNED, .form = PLAIN },
    { "a file system of that version, a known sketch", .mode = DEVICE_MODE_FS, .assigned = "0.9.0", .offers = "0.9.0",
      .says = "0.9.0", .runs = "1.0.0", .reason = REASON_UP_TO_DATE, .form = PLAIN },
    /* Who asks for an image without asking whether gets it, though it be the one it runs. */
    { "that version, asked for by name", .assigned = "1.1.0", .says = "1.1.0", .unconditional = true,
      .reason = REASON_LATEST, .form = PLAIN },
};

static void test_assigned(void **state)
{
    (void)state;
    run_cases(assigned, COUNT_OF(assigned));
}

/* --- what would not run ------------------------------------------------------------------------------------------ */

static const struct difference chips[] = {
    { "an ESP32's image for an ESP8266", .chip = CHIP_ESP32_C3, .reason = REASON_WRONG_CHIP, .form = PLAIN,
      .detail = "image is for ESP32-C3, device is ESP8266" },
    { "an ESP8266's image for an ESP32", .client = AS_ESP32, .reason = REASON_WRONG_CHIP, .form = PLAIN,
      .detail = "image is for ESP8266, device is of the ESP32 family" },
    { "another chip of the family", .client = AS_ESP32, .chip = CHIP_ESP32_S3, .runs = "1.0.0",
      .runs_chip = CHIP_ESP32_C3, .reason = REASON_WRONG_CHIP, .form = PLAIN,
      .detail = "image is for ESP32-S3, device is ESP32-C3" },
    { "the same chip of the family", .client = AS_ESP32, .chip = CHIP_ESP32_C3, .runs = "1.0.0",
      .runs_chip = CHIP_ESP32_C3, .reason = REASON_NEWER, .form = PLAIN },
    { "a family member that does not say which", .client = AS_ESP32, .chip = CHIP_ESP32_S3, .reason = REASON_NEWER,
      .form = PLAIN },
    { "a file system is of no chip", .mode = DEVICE_MODE_FS, .chip = CHIP_UNKNOWN, .reason = REASON_NEWER,
      .form = PLAIN },
    { "who names no chip takes what it asked for", .client = AS_PLAIN, .chip = CHIP_ESP32_S3, .unconditional = true,
      .reason = REASON_LATEST, .form = PLAIN },
    /* What a device says of its digest never outweighs what client it is. */
    { "an ESP8266 with an ESP32's digest", .chip = CHIP_ESP32_C3, .runs = "1.0.0", .runs_chip = CHIP_ESP32_C3,
      .reason = REASON_WRONG_CHIP, .form = PLAIN, .detail = "image is for ESP32-C3, device is ESP8266" },
    { "an ESP32 with an ESP8266's digest", .client = AS_ESP32, .runs = "1.0.0", .reason = REASON_WRONG_CHIP,
      .form = PLAIN, .detail = "image is for ESP8266, device is of the ESP32 family" },
};

static void test_chips(void **state)
{
    (void)state;
    run_cases(chips, COUNT_OF(chips));
}

static const struct difference flashes[] = {
    { "more flash than there is", .wants_flash = 8 * MIB, .reason = REASON_WRONG_FLASH, .form = PLAIN,
      .detail = "image wants 8388608 bytes of flash, device has 4194304" },
    { "as much flash as there is", .wants_flash = 4 * MIB, .reason = REASON_NEWER, .form = PLAIN },
    { "more flash than nobody knows", .wants_flash = 8 * MIB, .silent = true, .reason = REASON_NEWER, .form = PLAIN },
    { "a file system for less flash", .mode = DEVICE_MODE_FS, .chip = CHIP_UNKNOWN, .flash_mib = 2,
      .reason = REASON_WRONG_FLASH, .form = PLAIN, .detail = "image is for 2 MiB of flash, device has 4194304 bytes" },
    { "a file system for more flash", .mode = DEVICE_MODE_FS, .chip = CHIP_UNKNOWN, .flash_mib = 4096,
      .reason = REASON_WRONG_FLASH, .form = PLAIN,
      .detail = "image is for 4096 MiB of flash, device has 4194304 bytes" }, /* 2^32 bytes: not none */
    { "a file system for this flash", .mode = DEVICE_MODE_FS, .chip = CHIP_UNKNOWN, .flash_mib = 4,
      .reason = REASON_NEWER, .form = PLAIN },
    { "a file system for whatever flash", .mode = DEVICE_MODE_FS, .chip = CHIP_UNKNOWN, .flash_mib = 4, .silent = true,
      .reason = REASON_NEWER, .form = PLAIN },
    { "a file system for less flash, asked for by name", .mode = DEVICE_MODE_FS, .chip = CHIP_UNKNOWN, .flash_mib = 2,
      .unconditional = true, .reason = REASON_WRONG_FLASH, .form = PLAIN,
      .detail = "image is for 2 MiB of flash, device has 4194304 bytes" },
};

static void test_flashes(void **state)
{
    (void)state;
    run_cases(flashes, COUNT_OF(flashes));
}

static const char no_gzip[] = "only a compressed image is there and this client would not inflate it; add the .bin";

static const struct difference compressed[] = {
    { "an ESP32 takes none", .client = AS_ESP32, .chip = CHIP_ESP32_C3, .forms = FORM_GZIP, .reason = REASON_NO_GZIP,
      .form = GZIP, .detail = no_gzip },
    { "an ESP32's file system, though sketches inflate", .client = AS_ESP32, .mode = DEVICE_MODE_FS,
      .chip = CHIP_UNKNOWN, .forms = FORM_GZIP, .fs_gzip = true, .reason = REASON_NO_GZIP, .form = GZIP,
      .detail = no_gzip },
    { "an ESP8266's file system", .mode = DEVICE_MODE_FS, .chip = CHIP_UNKNOWN, .forms = FORM_GZIP,
      .reason = REASON_NO_GZIP, .form = GZIP, .detail = no_gzip },
    { "an ESP8266's file system, sketches inflate", .mode = DEVICE_MODE_FS, .chip = CHIP_UNKNOWN, .forms = FORM_GZIP,
      .fs_gzip = true, .reason = REASON_NEWER, .form = GZIP },
    { "a browser takes what is there", .client = AS_PLAIN, .forms = FORM_GZIP, .unconditional = true,
      .reason = REASON_LATEST, .form = GZIP },

    /* The updater does not patch the flash mode of what it inflates: a wrong one locks the module out. */
    { "nobody knows the device's mode", .forms = FORM_GZIP, .flash_mode = 2, .reason = REASON_WRONG_FLASH, .form = GZIP,
      .detail = "compressed image has flash mode dio, device runs in unknown; add the uncompressed .bin" },
    { "another mode", .forms = FORM_GZIP, .flash_mode = 0, .runs = "1.0.0", .runs_mode = 2 + 1,
      .reason = REASON_WRONG_FLASH, .form = GZIP,
      .detail = "compressed image has flash mode qio, device runs in dio; add the uncompressed .bin" },
    { "nobody knows it, asked for by name", .forms = FORM_GZIP, .flash_mode = 2, .unconditional = true,
      .reason = REASON_WRONG_FLASH, .form = GZIP,
      .detail = "compressed image has flash mode dio, device runs in unknown; add the uncompressed .bin" },
    { "the device's mode", .forms = FORM_GZIP, .flash_mode = 2, .runs = "1.0.0", .runs_mode = 2 + 1,
      .reason = REASON_NEWER, .form = GZIP },
    { "DOUT runs everywhere", .forms = FORM_GZIP, .flash_mode = IMAGE_FLASH_DOUT, .reason = REASON_NEWER,
      .form = GZIP },
    { "a file system has no mode", .mode = DEVICE_MODE_FS, .chip = CHIP_UNKNOWN, .forms = FORM_GZIP, .flash_mode = 0xff,
      .fs_gzip = true, .reason = REASON_NEWER, .form = GZIP },
    { "the uncompressed one's mode is patched", .flash_mode = 2, .runs = "1.0.0", .runs_mode = 0 + 1,
      .reason = REASON_NEWER, .form = PLAIN },

    /* Uncompressed is the first choice, compressed the one that fits. */
    { "both fit", .forms = FORM_BOTH, .flash_mode = IMAGE_FLASH_DOUT, .reason = REASON_NEWER, .form = PLAIN },
    { "nobody knows the room", .forms = FORM_BOTH, .flash_mode = IMAGE_FLASH_DOUT, .silent = true,
      .reason = REASON_NEWER, .form = PLAIN },
    { "compressed alone fits", .forms = FORM_BOTH, .flash_mode = IMAGE_FLASH_DOUT, .free_bytes = 300000,
      .reason = REASON_NEWER, .form = GZIP },
    { "compressed alone fits, in the wrong mode", .forms = FORM_BOTH, .free_bytes = 300000,
      .reason = REASON_DOES_NOT_FIT, .form = PLAIN, .detail = "image has 400000 bytes, device has room for 300000" },
    { "compressed alone fits, on an ESP32", .client = AS_ESP32, .chip = CHIP_ESP32_C3, .forms = FORM_BOTH,
      .free_bytes = 300000, .reason = REASON_DOES_NOT_FIT, .form = PLAIN,
      .detail = "image has 400000 bytes, device has room for 300000" },
    { "neither fits", .forms = FORM_BOTH, .flash_mode = IMAGE_FLASH_DOUT, .free_bytes = 299999,
      .reason = REASON_DOES_NOT_FIT, .form = GZIP, .detail = "image has 300000 bytes, device has room for 299999" },
};

static void test_compressed(void **state)
{
    (void)state;
    run_cases(compressed, COUNT_OF(compressed));
}

static const struct difference rooms[] = {
    { "one byte too many", .file_bytes = MIB + 1, .reason = REASON_DOES_NOT_FIT, .form = PLAIN,
      .detail = "image has 1048577 bytes, device has room for 1048576" },
    { "exactly the room", .file_bytes = MIB, .reason = REASON_NEWER, .form = PLAIN },
    { "a signature needs room too", .file_bytes = MIB + 1, .image_bytes = MIB, .reason = REASON_DOES_NOT_FIT,
      .form = PLAIN, .detail = "image has 1048577 bytes, device has room for 1048576" },
    /* It is unpacked over the running sketch, in whole sectors, and what is free behind it: 2 MiB here, no more. */
    { "compressed, room to unpack it", .forms = FORM_GZIP, .flash_mode = IMAGE_FLASH_DOUT, .image_bytes = 2 * MIB,
      .sketch_bytes = MIB - 1, .reason = REASON_NEWER, .form = GZIP },
    { "compressed, one byte too many unpacked", .forms = FORM_GZIP, .flash_mode = IMAGE_FLASH_DOUT,
      .image_bytes = 2 * MIB + 1, .sketch_bytes = MIB - 1, .reason = REASON_DOES_NOT_FIT, .form = GZIP,
      .detail = "image has 2097153 bytes unpacked, device has room for 2097152" },
    { "compressed, the running sketch's size unknown", .forms = FORM_GZIP, .flash_mode = IMAGE_FLASH_DOUT,
      .image_bytes = 2 * MIB, .reason = REASON_NEWER, .form = GZIP },
    /* free-space is the sketch's: a file system lies elsewhere. */
    { "a file system larger than the sketch's room", .mode = DEVICE_MODE_FS, .chip = CHIP_UNKNOWN,
      .file_bytes = 3 * MIB, .image_bytes = 3 * MIB, .reason = REASON_NEWER, .form = PLAIN },
    { "a file system larger than the flash", .mode = DEVICE_MODE_FS, .chip = CHIP_UNKNOWN, .image_bytes = 4 * MIB + 1,
      .reason = REASON_DOES_NOT_FIT, .form = PLAIN, .detail = "image has 4194305 bytes, device has room for 4194304" },
    { "a compressed file system larger than the flash", .mode = DEVICE_MODE_FS, .chip = CHIP_UNKNOWN,
      .forms = FORM_GZIP, .fs_gzip = true, .image_bytes = 4 * MIB + 1, .reason = REASON_DOES_NOT_FIT, .form = GZIP,
      .detail = "image has 4194305 bytes, device has room for 4194304" },
};

static void test_rooms(void **state)
{
    (void)state;
    run_cases(rooms, COUNT_OF(rooms));
}

/* The longest figures: the detail ends in a NUL and says both. */
static void test_details_hold_the_largest_figures(void **state)
{
    (void)state;
    struct fixture f;
    struct decision decision;
    fixture_init(&f);
    f.plain.facts.file_bytes = UINT64_MAX;
    f.request.free_bytes = UINT64_MAX - 1;
    decision_make(&f.in, &decision);
    assert_string_equal(decision.detail, "image has 18446744073709551615 bytes, device has room for "
                                         "18446744073709551614");
}

/* --- the order of the rules -------------------------------------------------------------------------------------- */

static void same_digest(struct fixture *f)
{
    f->request.has_md5 = true;
    memcpy(f->request.sketch_md5, f->gzip.facts.run_md5[0], 16);
}

static void same_version(struct fixture *f)
{
    say(f, "1.1.0");
}

static void newer_version(struct fixture *f)
{
    say(f, "1.2.0");
}

static void wrong_chip(struct fixture *f)
{
    f->plain.facts.chip = f->gzip.facts.chip = CHIP_ESP8266;
}

static void smaller_flash(struct fixture *f)
{
    f->request.flash_bytes = MIB / 2;
}

static void only_gzip(struct fixture *f)
{
    f->in.offer = (struct offer){ .gzip = &f->gzip };
}

static void no_room(struct fixture *f)
{
    f->request.free_bytes = 1000;
}

static void guarded(struct fixture *f)
{
    f->in.withheld = true;
    f->in.withheld_by = REASON_LOOP_GUARD;
    f->in.withheld_why = "";
}

static void is_assigned(struct fixture *f)
{
    f->in.assigned = "1.1.0";
    f->in.assigned_by = REASON_ASSIGNED;
}

static void unknown_version(struct fixture *f)
{
    say(f, "");
}

/* What may speak for one answer, in the order of the rules: of any two that hold, the upper decides. */
static const struct cause {
    const char *name;
    void (*apply)(struct fixture *);
    enum reason reason;
    bool of_any; /* also where the device does not ask whether */
} causes[] = {
    { "same digest", same_digest, REASON_SAME_DIGEST, false },
    { "same version", same_version, REASON_UP_TO_DATE, false },
    { "newer version", newer_version, REASON_DEVICE_NEWER, false },
    { "wrong chip", wrong_chip, REASON_WRONG_CHIP, true },
    { "smaller flash", smaller_flash, REASON_WRONG_FLASH, true },
    { "only gzip", only_gzip, REASON_NO_GZIP, true },
    { "no room", no_room, REASON_DOES_NOT_FIT, true },
    { "withheld", guarded, REASON_LOOP_GUARD, true },
    { "assigned", is_assigned, REASON_ASSIGNED, true },
    { "unknown version", unknown_version, REASON_UNKNOWN_BUILD, true },
};

static enum reason decide_both(const struct cause *lower, const struct cause *upper, bool unconditional)
{
    struct fixture f;
    struct decision decision;
    fixture_init(&f);
    f.request.client = CLIENT_ESP32;
    f.request.chip = CHIP_UNKNOWN;
    f.plain.facts.chip = f.gzip.facts.chip = CHIP_ESP32_C3;
    f.in.unconditional = unconditional;
    lower->apply(&f);
    upper->apply(&f);
    decision_make(&f.in, &decision);
    return decision.reason;
}

/* Else, say, a device that is up to date would be told that the image does not fit, and the operator go looking. */
static void test_order(void **state)
{
    (void)state;
    for (size_t upper = 0; upper < COUNT_OF(causes); upper++) {
        for (size_t lower = upper; lower < COUNT_OF(causes); lower++) {
            if (causes[upper].apply == newer_version && causes[lower].apply == is_assigned) {
                continue; /* an assigned build is not compared: a test of its own */
            }
            enum reason reason = decide_both(&causes[lower], &causes[upper], false);
            if (reason != causes[upper].reason) {
                fail_msg("%s and %s: %s", causes[upper].name, causes[lower].name, reason_word(reason));
            }
        }
    }
}

/* Else the simple updater would be answered 304, which it takes for a failure, or be sent what locks it out. */
static void test_unconditional_asks_only_whether_it_can(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(causes); i++) {
        bool refuses = causes[i].of_any && reason_http_status(causes[i].reason) != 200;
        enum reason reason = decide_both(&causes[i], &causes[i], true);
        if (reason != (refuses ? causes[i].reason : REASON_LATEST)) {
            fail_msg("%s: %s", causes[i].name, reason_word(reason));
        }
    }
}

/* --- which variant runs ------------------------------------------------------------------------------------------ */

/* Else the device's flash mode would be taken for QIO wherever the digest does not tell modes apart. */
static void test_digest_tells_the_flash_mode(void **state)
{
    (void)state;
    struct build build = build_of("1.0", 0x10);
    uint8_t mode = 0x5a;
    for (uint8_t i = 0; i < IMAGE_FLASH_MODES; i++) {
        build.facts.flash_mode = (uint8_t)(3 - i);
        assert_true(build_runs_md5(&build, build.facts.run_md5[i], &mode));
        assert_int_equal(mode, i);
    }
    for (uint8_t i = 0; i < IMAGE_FLASH_MODES; i++) {
        build.facts.run_md5[i][0] = 0x10;
    }
    build.facts.flash_mode = 2; /* of four equal ones it is the image's own */
    assert_true(build_runs_md5(&build, build.facts.run_md5[0], &mode));
    assert_int_equal(mode, 2);
    build.facts.flash_mode = 0xff;
    assert_true(build_runs_md5(&build, build.facts.run_md5[0], &mode));
    assert_true(mode < IMAGE_FLASH_MODES);
    mode = 0x5a;
    assert_false(build_runs_md5(&build, (const uint8_t[16]){ 0 }, &mode));
    assert_int_equal(mode, 0x5a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_served),
        cmocka_unit_test(test_nothing_to_offer),
        cmocka_unit_test(test_nothing_to_do),
        cmocka_unit_test(test_assigned),
        cmocka_unit_test(test_chips),
        cmocka_unit_test(test_flashes),
        cmocka_unit_test(test_compressed),
        cmocka_unit_test(test_rooms),
        cmocka_unit_test(test_details_hold_the_largest_figures),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_unconditional_asks_only_whether_it_can),
        cmocka_unit_test(test_digest_tells_the_flash_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
