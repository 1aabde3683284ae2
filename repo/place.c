/* What makes it hard: a name, the bytes and the type's other images each say what this is, and where they disagree the
 * image is somebody's mistake. */
#include "repo/place.h"

#include "repo/place_parts.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

const char *place_result_word(enum place_result result)
{
    static const char *const words[] = {
#define X(name, word) word,
        PLACE_RESULT_LIST(X)
#undef X
    };
    return words[result];
}

/* --- the name ----------------------------------------------------------------------------------------------------- */

static bool is_empty(struct slice version)
{
    return version.len == 0;
}

static bool is_long(struct slice version)
{
    struct version parsed;
    return version_parse(version, &parsed) == STATUS_TOO_LONG;
}

static bool has_no_digit(struct slice version)
{
    for (size_t i = 0; i < version.len; i++) {
        if (version.at[i] >= '0' && version.at[i] <= '9') {
            return false;
        }
    }
    return true;
}

static bool has_foreign_character(struct slice version)
{
    for (size_t i = 0; i < version.len; i++) {
        if (!filename_version_takes(version.at[i])) {
            return true;
        }
    }
    return false;
}

static bool ends_in_a_kind(struct slice version)
{
    return slice_ends_with(version, ".fs") || slice_ends_with(version, ".user1") || slice_ends_with(version, ".user2");
}

static bool is_whatever(struct slice version)
{
    (void)version;
    return true;
}

/* Of a version that the convention does not read as meant: the first that applies. */
static const struct {
    bool (*applies)(struct slice version);
    const char *reason, *remedy;
} version_faults[] = {
    { is_empty, "it is empty", "say one, such as 0.4.10" },
    { is_long, "it has more than 64 characters or 24 parts", "shorten it, such as to 0.4.10" },
    { has_no_digit, "it has no digit", "a version needs a digit, such as 0.4.10 or 1_2_0-rc1" },
    { has_foreign_character, "it has other characters than letters, digits and . _ - + ~ ( )",
      "write it as 0.4.10 or 1_2_0-rc1" },
    { ends_in_a_kind, "it ends in .fs, .user1 or .user2, as names do that say what an image is",
      "leave that off, and say it as the kind" },
    { is_whatever, "a file of that name would say something else", "write it as 0.4.10 or 1_2_0-rc1" },
};

static struct place_name_fault version_fault(struct slice version)
{
    size_t row = 0;
    while (!version_faults[row].applies(version)) {
        row++;
    }
    return (struct place_name_fault){ .reason = version_faults[row].reason, .remedy = version_faults[row].remedy };
}

bool place_path(struct slice type, struct slice version, enum filename_role role, bool gzip, struct place_order *order,
                struct place_name_fault *fault)
{
    static const char *const suffixes[] = { [FILENAME_SKETCH] = ".bin",
                                            [FILENAME_FS] = ".fs.bin",
                                            [FILENAME_USER1] = ".user1.bin",
                                            [FILENAME_USER2] = ".user2.bin" };
    struct filename_refusal refusal;
    assert(role < sizeof suffixes / sizeof suffixes[0] && suffixes[role] != NULL);
    if (!type_is_valid(type)) {
        *fault = (struct place_name_fault){ true,
                                            "a type has 1 to 64 letters, digits, `.`, `_` and `-`, and does not begin "
                                            "with `.`",
                                            "name it as the devices do, such as d1_mini" };
        return false;
    }
    *fault = version_fault(version);
    if (version.len == 0 || version.len > VERSION_TEXT_MAX || memchr(version.at, '/', version.len) != NULL) {
        return false;
    }
    snprintf(order->path, sizeof order->path, "%.*s/%.*s%s%s", (int)type.len, type.at, (int)version.len, version.at,
             suffixes[role], gzip ? ".gz" : "");
    /* The convention itself has the last word: what a scan would read in this name must be what was meant. */
    return filename_parse(slice_of(order->path), &order->name, &refusal) == FILENAME_OK && order->name.role == role &&
           order->name.gzip == gzip && slice_is(type, order->name.type) && slice_is(version, order->name.version.text);
}

/* --- what contradicts --------------------------------------------------------------------------------------------- */

/* What build systems leave behind when nobody set a version says nothing: "1", a commit, the build tool's own name.
 * Only what reads as a version of several parts, and as nothing else, is taken for one. */
static bool says_version(const char *text, struct version *version)
{
    return strpbrk(text, "._") != NULL && version_is_plain(slice_of(text)) &&
           version_parse(slice_of(text), version) == STATUS_OK;
}

static bool contradicts(const struct place_order *order, struct place_outcome *outcome)
{
    const struct image_facts *facts = &outcome->facts;
    struct version inside;
    if (facts->has_app && says_version(facts->app_version, &inside) &&
        version_compare(&inside, &order->name.version) != 0) {
        outcome->result = PLACE_CONTRADICTS_VERSION;
        snprintf(outcome->message, sizeof outcome->message, "the image says that it is version %s, not %s", inside.text,
                 order->name.version.text);
        snprintf(outcome->remedy, sizeof outcome->remedy,
                 "add it as --version %s, or build it with the version you mean", inside.text);
        return true;
    }
    if (order->chip != CHIP_UNKNOWN && facts->chip != CHIP_UNKNOWN && facts->chip != order->chip) {
        outcome->result = PLACE_CONTRADICTS_CHIP;
        snprintf(outcome->message, sizeof outcome->message,
                 "the image is for %s, the other images of type \"%s\" for %s", chip_text(facts->chip),
                 order->name.type, chip_text(order->chip));
        snprintf(outcome->remedy, sizeof outcome->remedy, "a type has one chip: give this image a type of its own");
        return true;
    }
    return false;
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

static void reject_form(struct place_outcome *outcome)
{
    bool gzip = outcome->facts.gzip;
    outcome->result = PLACE_REJECTED;
    outcome->verdict.fault = IMAGE_FAULT_WRONG_USE;
    snprintf(outcome->verdict.detail, sizeof outcome->verdict.detail, "the image is %scompressed", gzip ? "" : "not ");
    snprintf(outcome->verdict.remedy, sizeof outcome->verdict.remedy, "add it %s",
             gzip ? "as a compressed one (gzip=yes, or without a word of it)" : "without gzip=yes");
}

void place_image(const struct place_order *order, struct place_outcome *outcome)
{
    static const enum image_use uses[] = { [FILENAME_SKETCH] = IMAGE_USE_SKETCH,
                                           [FILENAME_FS] = IMAGE_USE_FS,
                                           [FILENAME_USER1] = IMAGE_USE_SLOT,
                                           [FILENAME_USER2] = IMAGE_USE_SLOT };
    struct signature_vouchers by;
    memset(outcome, 0, sizeof *outcome); /* PLACE_DONE, so far */
    struct slice detached = { (const char *)order->detached, order->detached_size };
    if (!image_check(order->bytes, order->size, uses[order->name.role], &outcome->facts, &outcome->verdict) ||
        (order->keys != NULL &&
         !signature_check(order->keys, order->bytes, &outcome->facts, detached, &by, &outcome->verdict))) {
        outcome->result = PLACE_REJECTED;
    } else if (outcome->facts.gzip != order->name.gzip) { /* a scan would refuse it by its name */
        reject_form(outcome);
    } else if (!contradicts(order, outcome)) {
        place_write(order, outcome);
    }
}
