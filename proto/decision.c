/* Rules in order, the first that holds decides. What makes it hard is in the order: "is it there", "does it run it",
 * "does it want it", "can it take it", "may it have it", and only then which word the serving gets. */
#include "proto/decision.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct situation {
    const struct decision_input *in;
    const struct device_request *request;
    const struct build *build;     /* the form of the offer that would be sent */
    const struct version *running; /* what the device runs; NULL = neither digest nor version says */
};

static bool is_sketch(const struct situation *s)
{
    return s->request->mode != DEVICE_MODE_FS;
}

/* --- does it run it? --------------------------------------------------------------------------------------------- */

bool build_runs_md5(const struct build *build, const uint8_t md5[16], uint8_t *flash_mode)
{
    const struct image_facts *facts = &build->facts;
    unsigned own = facts->flash_mode < IMAGE_FLASH_MODES ? facts->flash_mode : 0;
    for (unsigned i = 0; i < IMAGE_FLASH_MODES; i++) {
        unsigned mode = (own + i) % IMAGE_FLASH_MODES; /* its own first: where all four are the same, that is the one */
        if (memcmp(facts->run_md5[mode], md5, 16) == 0) {
            *flash_mode = (uint8_t)mode;
            return true;
        }
    }
    return false;
}

static bool runs_offered_digest(const struct situation *s)
{
    uint8_t mode;
    if (!is_sketch(s)) {
        return false; /* a file system check carries the sketch's digest, none of the file system */
    }
    const struct device_request *r = s->request;
    const struct image_facts *facts = &s->build->facts;
    return (r->has_md5 && build_runs_md5(s->build, r->sketch_md5, &mode)) ||
           (r->has_sha256 && facts->has_run_sha256 && memcmp(facts->run_sha256, r->sketch_sha256, 32) == 0);
}

/* --- does it want it? -------------------------------------------------------------------------------------------- */

static bool is_assigned(const struct situation *s)
{
    return s->in->assigned != NULL;
}

/* Equality alone counts for an assigned build, so that an operator can go back. A known digest overrules the label. */
static bool says_assigned(const struct situation *s)
{
    if (!is_assigned(s) || (is_sketch(s) && s->in->running != NULL)) {
        return false;
    }
    const struct version *offered = &s->build->version;
    return slice_is(s->request->label, s->in->assigned) ||
           (s->request->version.text[0] != '\0' && offered->text[0] != '\0' &&
            version_compare(&s->request->version, offered) == 0);
}

static bool is_comparable(const struct situation *s)
{
    return !is_assigned(s) && s->running != NULL && s->build->version.text[0] != '\0';
}

static bool runs_same_version(const struct situation *s)
{
    return is_comparable(s) && version_compare(s->running, &s->build->version) == 0;
}

static bool runs_newer_version(const struct situation *s)
{
    return is_comparable(s) && version_compare(s->running, &s->build->version) > 0;
}

/* --- can it take it? --------------------------------------------------------------------------------------------- */

/* The client names an ESP8266; of the ESP32 family it is the running build that says which. A digest that contradicts
 * the client is a lie, and says nothing. */
static enum chip device_chip(const struct situation *s)
{
    const struct build *running = s->in->running;
    bool believed = s->request->client == CLIENT_ESP32 && running != NULL && chip_is_esp32_family(running->facts.chip);
    return believed ? running->facts.chip : s->request->chip;
}

static bool chip_differs(const struct situation *s)
{
    enum chip offered = s->build->facts.chip;
    enum chip device = device_chip(s);
    if (offered == CHIP_UNKNOWN) {
        return false; /* file systems are of no chip */
    }
    if (device != CHIP_UNKNOWN) {
        return device != offered;
    }
    return s->request->client == CLIENT_ESP32 && !chip_is_esp32_family(offered);
}

static bool flash_is_smaller(const struct situation *s)
{
    return s->request->flash_bytes != 0 && s->build->facts.flash_bytes > s->request->flash_bytes;
}

static bool flash_is_for_another(const struct situation *s)
{
    return s->build->flash_mib != 0 && s->request->flash_bytes != 0 &&
           (uint64_t)s->build->flash_mib << 20 != s->request->flash_bytes;
}

static bool gzip_is_refused(const struct situation *s)
{
    if (!s->build->facts.gzip || s->request->client == CLIENT_PLAIN) {
        return false;
    }
    /* arduino-esp32 takes no first byte but E9; file systems are inflated only with ATOMIC_FS_UPDATE built in. */
    return s->request->client == CLIENT_ESP32 || (!is_sketch(s) && !s->in->fs_gzip);
}

/* The Updater writes the device's own flash mode into an uncompressed image, never into a compressed one, and a mode
 * that the module is not wired for locks it out (esp8266/Arduino#4876). DOUT runs on every module. */
static bool gzip_flash_mode_differs(const struct situation *s)
{
    return s->build->facts.gzip && s->request->client == CLIENT_ESP8266 && is_sketch(s) &&
           s->build->facts.flash_mode != IMAGE_FLASH_DOUT && s->build->facts.flash_mode != s->in->running_flash_mode;
}

/* eboot unpacks over the running sketch, from the start of flash on: into its room and what is free behind it. */
static uint64_t unpacked_room(const struct situation *s)
{
    uint64_t sketch_bytes = (s->request->sketch_bytes + 4095) & ~(uint64_t)4095;
    return s->request->sketch_bytes != 0 ? s->request->free_bytes + sketch_bytes : UINT64_MAX;
}

static bool is_larger_than(const struct build *build, const struct situation *s)
{
    if (is_sketch(s)) {
        return s->request->free_bytes != 0 && (build->facts.file_bytes > s->request->free_bytes ||
                                               (build->facts.gzip && build->facts.image_bytes > unpacked_room(s)));
    }
    /* free-space is of the sketch's partition; of a file system it is only known that it lies inside the flash. */
    return s->request->flash_bytes != 0 && build->facts.image_bytes > s->request->flash_bytes;
}

static bool does_not_fit(const struct situation *s)
{
    return is_larger_than(s->build, s);
}

/* --- may it have it? --------------------------------------------------------------------------------------------- */

static bool is_withheld(const struct situation *s)
{
    return s->in->withheld;
}

static bool is_unconditional(const struct situation *s)
{
    return s->in->unconditional;
}

static bool is_unknown_build(const struct situation *s)
{
    return s->running == NULL;
}

static bool always(const struct situation *s)
{
    (void)s;
    return true;
}

enum asked { ASKED_ANY, ASKED_CHECK }; /* ASKED_CHECK: only where the device wants to know whether to update */

/* Whoever asked knows which. */
#define WITHHELD_BY REASON_COUNT
#define ASSIGNED_BY (REASON_COUNT + 1)

static const struct rule {
    bool (*holds)(const struct situation *);
    unsigned reason; /* enum reason, or one of the two above */
    enum asked asked;
} rules[] = {
    { runs_offered_digest, REASON_SAME_DIGEST, ASKED_CHECK },
    { says_assigned, REASON_UP_TO_DATE, ASKED_CHECK },
    { runs_same_version, REASON_UP_TO_DATE, ASKED_CHECK },
    { runs_newer_version, REASON_DEVICE_NEWER, ASKED_CHECK },

    { chip_differs, REASON_WRONG_CHIP, ASKED_ANY },
    { flash_is_smaller, REASON_WRONG_FLASH, ASKED_ANY },
    { flash_is_for_another, REASON_WRONG_FLASH, ASKED_ANY },
    { gzip_is_refused, REASON_NO_GZIP, ASKED_ANY },
    { gzip_flash_mode_differs, REASON_WRONG_FLASH, ASKED_ANY },
    { does_not_fit, REASON_DOES_NOT_FIT, ASKED_ANY },

    { is_withheld, WITHHELD_BY, ASKED_ANY },

    { is_unconditional, REASON_LATEST, ASKED_ANY },
    { is_assigned, ASSIGNED_BY, ASKED_ANY },
    { is_unknown_build, REASON_UNKNOWN_BUILD, ASKED_ANY },
    { always, REASON_NEWER, ASKED_ANY },
};

/* --- the figures of a refusal ------------------------------------------------------------------------------------ */

static void describe(const struct situation *s, enum reason reason, char *detail, size_t size)
{
    const struct image_facts *facts = &s->build->facts;
    switch (reason) {
    case REASON_WRONG_CHIP:
        snprintf(detail, size, "image is for %s, device is %s", chip_text(facts->chip),
                 device_chip(s) != CHIP_UNKNOWN ? chip_text(device_chip(s)) : "of the ESP32 family");
        break;
    case REASON_WRONG_FLASH:
        if (flash_is_smaller(s)) {
            snprintf(detail, size, "image wants %" PRIu64 " bytes of flash, device has %" PRIu64, facts->flash_bytes,
                     s->request->flash_bytes);
        } else if (flash_is_for_another(s)) {
            snprintf(detail, size, "image is for %" PRIu32 " MiB of flash, device has %" PRIu64 " bytes",
                     s->build->flash_mib, s->request->flash_bytes);
        } else {
            snprintf(detail, size, "compressed image has flash mode %s, device runs in %s; add the uncompressed .bin",
                     flash_mode_text(facts->flash_mode), flash_mode_text(s->in->running_flash_mode));
        }
        break;
    case REASON_DOES_NOT_FIT:
        if (!is_sketch(s)) {
            snprintf(detail, size, "image has %" PRIu64 " bytes, device has room for %" PRIu64, facts->image_bytes,
                     s->request->flash_bytes);
        } else if (facts->file_bytes > s->request->free_bytes) {
            snprintf(detail, size, "image has %" PRIu64 " bytes, device has room for %" PRIu64, facts->file_bytes,
                     s->request->free_bytes);
        } else {
            snprintf(detail, size, "image has %" PRIu64 " bytes unpacked, device has room for %" PRIu64,
                     facts->image_bytes, unpacked_room(s));
        }
        break;
    case REASON_NO_GZIP:
        snprintf(detail, size, "only a compressed image is there and this client would not inflate it; add the .bin");
        break;
    default:
        detail[0] = '\0';
    }
}

/* Uncompressed is what every client takes; compressed where that alone is there, or alone has room. */
static const struct build *choose_form(const struct offer *offer, const struct situation *s)
{
    if (offer->plain == NULL) {
        return offer->gzip;
    }
    if (offer->gzip == NULL || !is_larger_than(offer->plain, s)) {
        return offer->plain;
    }
    struct situation compressed = *s;
    compressed.build = offer->gzip;
    bool usable = !gzip_is_refused(&compressed) && !gzip_flash_mode_differs(&compressed);
    return usable ? offer->gzip : offer->plain;
}

static const struct version *running_version(const struct decision_input *in)
{
    if (in->request->mode != DEVICE_MODE_FS && in->running != NULL && in->running->version.text[0] != '\0') {
        return &in->running->version;
    }
    return in->request->version.text[0] != '\0' ? &in->request->version : NULL;
}

void decision_make(const struct decision_input *input, struct decision *decision)
{
    *decision = (struct decision){ .reason = input->missing };
    if (input->offer.plain == NULL && input->offer.gzip == NULL) {
        return;
    }
    struct situation s = { .in = input, .request = input->request, .running = running_version(input) };
    s.build = choose_form(&input->offer, &s);
    const struct rule *rule = rules;
    while ((rule->asked == ASKED_CHECK && input->unconditional) || !rule->holds(&s)) {
        rule++; /* the last rule always holds */
    }
    decision->build = s.build;
    if (rule->reason == WITHHELD_BY) {
        decision->reason = input->withheld_by;
        snprintf(decision->detail, sizeof decision->detail, "%s", input->withheld_why);
        return;
    }
    decision->reason = rule->reason == ASSIGNED_BY ? input->assigned_by : (enum reason)rule->reason;
    describe(&s, decision->reason, decision->detail, sizeof decision->detail);
}

bool decision_serves(const struct decision *decision)
{
    return reason_http_status(decision->reason) == 200;
}
