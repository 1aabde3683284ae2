/* A fleet with a small catalog and a server around it, as far as its judgement needs one: who asks is directed,
 * offered, permitted or not, and told of, in the order in which server/check and server/device_api do it.
 */
#ifndef TESTS_FLEET_FIXTURE_H
#define TESTS_FLEET_FIXTURE_H

#include "fleet/fleet.h"
#include "proto/version.h"
#include "tests/support/no_effects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BUILDS_MAX     32
#define LOOP_GUARD_MAX 3

struct build {
    char type[16];
    bool fs, gone;
    unsigned version; /* "<version>.0" */
    uint8_t file[16];
    uint8_t run[16];
};

struct yard {
    struct moment now;
    struct fleet fleet;
    struct assignments *assignments;
    struct offerings *offerings;
    struct build builds[BUILDS_MAX];
    size_t build_count;
    struct rollout_effects effects;
};

/* What a device says when it asks. */
struct asking {
    struct mac mac;
    const char *type; /* "" on /update */
    bool fs;
    const struct build *runs;   /* of the kind it asks for; NULL = a build that nobody knows */
    const struct build *sketch; /* a file system check says this one's digest; NULL = none */
    bool says_no_digest, says_no_version;
    bool says_sha256;  /* in place of the MD5 */
    const char *label; /* NULL = as its build is called */
    uint8_t site;
    const char *version; /* ?version= ; NULL */
    bool by_latest;      /* /latest/<type>.bin: whatever it runs, and whatever it proved with it */
};

struct reply {
    enum reason reason;
    const struct build *served; /* NULL = nothing */
    struct direction direction;
    struct outcome_verdict verdict;
    char detail[160];
};

static inline bool yard_in_group(void *owner, const struct mac *mac, const char *group)
{
    const struct yard *yard = owner;
    const struct fleet *fleet = &yard->fleet;
    return policy_in_group(policies_find(fleet->policies, mac), words_find(fleet->words, slice_of(group)));
}

/* --- from start to end ----------------------------------------------------------------------------------------------
 */

static inline struct yard *yard_new(enum offering fallback)
{
    struct yard *yard = calloc(1, sizeof *yard);
    assert_non_null(yard);
    struct fleet *fleet = &yard->fleet;
    yard->now = (struct moment){ .ms = 1000000, .unix_s = 1000000000 };
    yard->assignments = assignments_new();
    yard->offerings = offerings_new(fallback);
    yard->effects = no_effects;
    yard->effects.in_group = yard_in_group;
    yard->effects.owner = yard;
    fleet_init(fleet, 10000, &yard->effects);
    fleet->settings = (struct fleet_settings){ .assignments = yard->assignments,
                                               .offerings = yard->offerings,
                                               .loop_guard_max = LOOP_GUARD_MAX };
    return yard;
}

static inline void yard_free(struct yard *yard)
{
    fleet_close(&yard->fleet);
    offerings_free(yard->offerings);
    assignments_free(yard->assignments);
    free(yard);
}

static inline void pass_ms(struct yard *yard, uint64_t ms)
{
    yard->now.ms += ms;
    yard->now.unix_s += (uint32_t)(ms / 1000);
    rollouts_tick(yard->fleet.rollouts, &yard->now);
}

static inline struct mac yard_mac(unsigned i)
{
    return (struct mac){ { 0x5c, 0xcf, 0x7f, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i } };
}

/* --- the catalog ----------------------------------------------------------------------------------------------------
 */

static inline struct build *add_build(struct yard *yard, const char *type, bool fs, unsigned version)
{
    assert_true(yard->build_count < BUILDS_MAX);
    struct build *build = &yard->builds[yard->build_count++];
    *build = (struct build){ .fs = fs, .version = version };
    snprintf(build->type, sizeof build->type, "%s", type);
    build->file[0] = (uint8_t)yard->build_count;
    build->file[1] = 0xf1;
    build->run[0] = (uint8_t)yard->build_count;
    build->run[1] = 0xab;
    return build;
}

static inline void version_text(const struct build *build, char text[8])
{
    snprintf(text, 8, "%u.0", build->version % 1000);
}

/* The newest of the type and kind, or the one of that version; NULL = none. */
static inline const struct build *find_build(const struct yard *yard, struct slice type, bool fs, const char *wanted)
{
    const struct build *found = NULL;
    for (size_t i = 0; i < yard->build_count; i++) {
        const struct build *build = &yard->builds[i];
        char text[8];
        version_text(build, text);
        bool fits = !build->gone && build->fs == fs && slice_is(type, build->type) &&
                    (wanted == NULL || version_same_text(slice_of(text), slice_of(wanted)));
        if (fits && (found == NULL || build->version > found->version)) {
            found = build;
        }
    }
    return found;
}

/* --- rollouts -------------------------------------------------------------------------------------------------------
 */

static inline struct rollout_order order_of(const struct yard *yard, const struct build *build)
{
    struct rollout_order order = { .percent = 100,
                                   .max_failures = 20,
                                   .in_flight = 4,
                                   .timeout_ms = 60000,
                                   .reboot_ms = 120000,
                                   .broker_ms = 300000 };
    struct rollout_target *target = &order.target;
    char text[8];
    version_text(build, text);
    snprintf(target->type, sizeof target->type, "%s", build->type);
    snprintf(target->version, sizeof target->version, "%s", text);
    target->fs = build->fs;
    target->image_count = 1;
    memcpy(target->md5[0], build->file, 16);
    target->run_md5_count = 1;
    memcpy(target->run_md5[0], build->run, 16);
    const struct build *newest = find_build(yard, slice_of(build->type), build->fs, NULL);
    if (newest != NULL && newest->version > build->version) {
        version_text(newest, text);
        snprintf(target->passed_over, sizeof target->passed_over, "%s", text);
    }
    return order;
}

/* Ordered and started; `count` devices from the first-th on join. */
static inline struct rollout *roll_out(struct yard *yard, const char *id, const struct rollout_order *order,
                                       unsigned first, unsigned count)
{
    struct rollouts *rollouts = yard->fleet.rollouts;
    struct rollout *rollout = rollouts_begin(rollouts, id, order, &yard->now);
    assert_non_null(rollout);
    for (unsigned i = first; i < first + count; i++) {
        struct rollout_joiner joiner = { .mac = yard_mac(i), .site = i };
        rollout_join(rollout, &joiner, &yard->now);
    }
    rollout_start(rollout, false, true, &yard->now);
    return rollout;
}

/* --- asking ---------------------------------------------------------------------------------------------------------
 */

static inline bool passes_over(const struct yard *yard, const struct direction *direction, bool fs)
{
    const struct build *newest = find_build(yard, direction->type, fs, NULL);
    struct version above, version;
    char text[8];
    if (direction->unless_above == NULL || newest == NULL) {
        return false;
    }
    version_text(newest, text);
    return version_parse(slice_of(direction->unless_above), &above) == STATUS_OK &&
           version_parse(slice_of(text), &version) == STATUS_OK && version_compare(&version, &above) > 0;
}

static inline struct permission permit_build(const struct yard *yard, const struct mac *mac, uint64_t site,
                                             const struct direction *direction, const struct build *build,
                                             const uint8_t *sketch_md5, bool ignores_record)
{
    struct permission permission;
    struct candidate candidate = { .type = direction->type,
                                   .fs = build != NULL && build->fs,
                                   .form_count = build != NULL,
                                   .sketch_md5 = sketch_md5,
                                   .ignores_record = ignores_record,
                                   .served_max = LOOP_GUARD_MAX };
    if (build != NULL) {
        candidate.file_md5[0] = build->file;
        candidate.run_md5 = build->run;
    }
    fleet_permit(&yard->fleet, mac, site, direction, &candidate, &yard->now, &permission);
    return permission;
}

/* As proto/decision: what it runs, then what withholds it. */
static inline enum reason decide(const struct asking *asking, const struct direction *direction,
                                 const struct build *build, const struct permission *permission)
{
    bool by_version = asking->fs || asking->says_no_digest;
    if (direction->nothing != REASON_COUNT || build == NULL) {
        return direction->nothing != REASON_COUNT ? direction->nothing : REASON_NO_IMAGE;
    }
    if (asking->by_latest) {
        return permission->reason != REASON_COUNT ? permission->reason : REASON_LATEST;
    }
    if (asking->runs == build && !(by_version && asking->says_no_version)) {
        return by_version ? REASON_UP_TO_DATE : REASON_SAME_DIGEST;
    }
    if (direction->wanted == NULL && asking->runs != NULL && asking->runs->version > build->version &&
        !asking->says_no_version) {
        return REASON_DEVICE_NEWER;
    }
    return permission->reason != REASON_COUNT ? permission->reason : direction->source;
}

static inline void site_address(uint8_t site, uint8_t address[16])
{
    memset(address, 0, 16);
    address[10] = address[11] = 0xff;
    address[12] = 10;
    address[14] = site;
    address[15] = 7;
}

static inline bool is_rollouts(const struct direction *direction, const struct build *build)
{
    return direction->rollout != NULL && build != NULL &&
           memcmp(direction->rollout->order.target.md5[0], build->file, 16) == 0;
}

static inline void tell_check(struct yard *yard, const struct asking *asking, const struct build *build,
                              struct reply *reply)
{
    char label[8] = "0.1";
    if (asking->runs != NULL) {
        version_text(asking->runs, label);
    }
    const struct build *sketch = asking->fs ? asking->sketch : asking->runs;
    bool says_digest = !asking->says_no_digest && (!asking->fs || sketch != NULL);
    struct device_request request = { .client = CLIENT_ESP8266,
                                      .mode = asking->fs ? DEVICE_MODE_FS : DEVICE_MODE_SKETCH,
                                      .has_mac = true,
                                      .mac = asking->mac,
                                      .has_md5 = says_digest && !asking->says_sha256,
                                      .has_sha256 = asking->says_sha256,
                                      .chip = CHIP_ESP8266 };
    if (!asking->says_no_version) {
        request.label = slice_of(asking->label != NULL ? asking->label : label);
    }
    memset(request.sketch_md5, 0xee, sizeof request.sketch_md5);
    if (sketch != NULL) {
        memcpy(request.sketch_md5, sketch->run, 16);
    }
    memset(request.sketch_sha256, sketch != NULL ? sketch->run[0] : 0xdd, sizeof request.sketch_sha256);
    const struct device *device = devices_find(yard->fleet.devices, &asking->mac);
    bool sent_is_known = false;
    for (size_t i = 0; device != NULL && i < yard->build_count; i++) {
        sent_is_known = sent_is_known || (!yard->builds[i].gone &&
                                          memcmp(yard->builds[i].run, device_sent(device, asking->fs)->md5, 16) == 0);
    }
    bool known = sketch != NULL && !sketch->gone && !asking->says_no_digest;
    struct checkin checkin = { .request = &request,
                               .type = reply->direction.type,
                               .reason = reply->reason,
                               .detail = reply->detail,
                               .serves = reply->served != NULL,
                               .of_rollout = is_rollouts(&reply->direction, build),
                               .running_md5 = known ? sketch->run : NULL,
                               .sent_is_known = sent_is_known,
                               .flash_mode = FLASH_MODE_UNKNOWN,
                               .chip = CHIP_UNKNOWN };
    site_address(asking->site, checkin.address);
    (void)fleet_checked_in(&yard->fleet, &checkin, &yard->now, &reply->verdict);
}

/* The whole of a check. What is served has still to be sent: sends. */
static inline struct reply ask(struct yard *yard, const struct asking *asking)
{
    struct reply reply = { .reason = REASON_COUNT };
    struct direction *direction = &reply.direction;
    uint8_t address[16];
    fleet_direct(&yard->fleet, &asking->mac, slice_of(asking->type), asking->fs, asking->version, direction);
    const char *wanted = direction->wanted;
    if (passes_over(yard, direction, asking->fs)) {
        wanted = direction->wanted = NULL;
        direction->source = REASON_NEWER;
        direction->rollout = NULL;
    }
    const struct build *build =
        direction->nothing == REASON_COUNT ? find_build(yard, direction->type, asking->fs, wanted) : NULL;
    site_address(asking->site, address);
    struct device_request said = { .has_sha256 = asking->says_sha256 };
    memset(said.sketch_sha256, 0xdd, sizeof said.sketch_sha256);
    const uint8_t *running = asking->says_no_digest || asking->runs == NULL ? NULL : asking->runs->run;
    const uint8_t *md5 = running != NULL ? running : fleet_digest(&said, NULL);
    struct permission permission =
        permit_build(yard, &asking->mac, fleet_site(address), direction, build, md5, asking->by_latest);
    reply.reason = decide(asking, direction, build, &permission);
    snprintf(reply.detail, sizeof reply.detail, "%s",
             reply.reason == permission.reason && permission.reason != REASON_COUNT ? permission.detail : "");
    reply.served = reason_http_status(reply.reason) == 200 ? build : NULL;
    if (direction->type.len > 0) {
        tell_check(yard, asking, build, &reply);
    }
    return reply;
}

static inline struct sending sending_of(const struct mac *mac, const struct build *build, const char text[8])
{
    return (struct sending){ .mac = mac,
                             .fs = build->fs,
                             .full = true,
                             .file_md5 = build->file,
                             .run_md5 = build->run,
                             .version = text,
                             .served_max = LOOP_GUARD_MAX };
}

static inline void send_begins(struct yard *yard, const struct mac *mac, const struct build *build)
{
    char text[8];
    version_text(build, text);
    struct sending sending = sending_of(mac, build, text);
    fleet_sending_begins(&yard->fleet, &sending, &yard->now);
}

/* `asked_by`: the sketch that asked; NULL = whoever asked last. */
static inline void send_ends_of(struct yard *yard, const struct mac *mac, const struct build *build,
                                const struct build *asked_by, bool whole)
{
    char text[8];
    version_text(build, text);
    struct sending sending = sending_of(mac, build, text);
    sending.asked_by = asked_by != NULL ? asked_by->run : NULL;
    struct sending_end end = { .whole = whole, .bytes = whole ? 1000 : 420, .of = 1000, .ms = 900, .why = "reset" };
    fleet_sending_ended(&yard->fleet, &sending, &end, &yard->now);
}

static inline void send_ends(struct yard *yard, const struct mac *mac, const struct build *build, bool whole)
{
    send_ends_of(yard, mac, build, NULL, whole);
}

static inline void send_whole(struct yard *yard, const struct mac *mac, const struct build *build)
{
    send_begins(yard, mac, build);
    send_ends(yard, mac, build, true);
}

/* --- an operator ----------------------------------------------------------------------------------------------------
 */

static inline struct policy_entry said_of(const struct yard *yard, unsigned i)
{
    struct mac mac = yard_mac(i);
    const struct policy_entry *entry = policies_find(yard->fleet.policies, &mac);
    return entry != NULL ? *entry : (struct policy_entry){ .mac = mac };
}

static inline void say_of(struct yard *yard, const struct policy_entry *entry)
{
    uint64_t ticket;
    assert_int_equal(fleet_set_policy(&yard->fleet, entry, &yard->now, &ticket), STATUS_OK);
}

static inline void pin_to(struct yard *yard, unsigned i, const char *version)
{
    struct policy_entry entry = said_of(yard, i);
    entry.pin = words_take(yard->fleet.words, slice_of(version));
    say_of(yard, &entry);
    words_drop(yard->fleet.words, entry.pin);
}

static inline void put_in_group(struct yard *yard, unsigned i, const char *group)
{
    struct policy_entry entry = said_of(yard, i);
    word_id word = words_take(yard->fleet.words, slice_of(group));
    if (entry.group_count < POLICY_GROUPS_MAX) {
        entry.groups[entry.group_count++] = word;
        say_of(yard, &entry);
    }
    words_drop(yard->fleet.words, word);
}

static inline void set_blocked(struct yard *yard, unsigned i, bool blocked)
{
    struct policy_entry entry = said_of(yard, i);
    entry.blocked = blocked;
    say_of(yard, &entry);
}

#endif
