/* The fleet's judgement as a whole: whose word goes for a device, what is kept from it, and what is learned from its
 * coming.
 */
#include "tests/unit/fleet/fleet_fixture.h"

#define ID_A "00000000000000aa"
#define ID_B "00000000000000bb"

static struct asking porch(unsigned device, const struct build *runs)
{
    return (struct asking){ .mac = yard_mac(device), .type = "porch", .runs = runs, .site = (uint8_t)device };
}

static enum reason asks(struct yard *yard, unsigned device, const struct build *runs)
{
    struct asking asking = porch(device, runs);
    return ask(yard, &asking).reason;
}

static const struct device *record(const struct yard *yard, unsigned device)
{
    struct mac mac = yard_mac(device);
    const struct device *found = devices_find(yard->fleet.devices, &mac);
    assert_non_null(found);
    return found;
}

static const char *outcome_of(const struct yard *yard, unsigned device)
{
    return outcome_word((enum outcome)record(yard, device)->transfer.outcome);
}

static const char *fs_outcome_of(const struct yard *yard, unsigned device)
{
    return outcome_word((enum outcome)device_sent(record(yard, device), true)->outcome);
}

/* It is served, takes it whole, and comes back with `then`. */
static enum reason takes(struct yard *yard, unsigned device, const struct build *runs, const struct build *build,
                         const struct build *then)
{
    struct mac mac = yard_mac(device);
    struct asking asking = porch(device, runs);
    struct reply reply = ask(yard, &asking);
    assert_ptr_equal(reply.served, build);
    send_whole(yard, &mac, build);
    return asks(yard, device, then);
}

static const char *member_state(const struct yard *yard, const struct rollout *rollout, unsigned device)
{
    struct mac mac = yard_mac(device);
    struct rollout_member member;
    (void)yard;
    return rollout_member(rollout, &mac, &member) ? rollout_device_word(member.state) : "none";
}

static void assign(struct yard *yard, const char *mac, const char *words)
{
    const char *why;
    assert_int_equal(assignments_add_line(yard->assignments, slice_of(mac), slice_of(words), &why), STATUS_OK);
}

/* --- the fixture ----------------------------------------------------------------------------------------------------
 */

static struct yard *yard;
static struct build *one, *two; /* porch 1.0 and 2.0 */

static int set_up_bare(void **state)
{
    (void)state;
    yard = yard_new(OFFER_NEWEST_TO_ALL);
    return 0;
}

static int set_up_published(void **state)
{
    (void)state;
    yard = yard_new(OFFER_PUBLISHED);
    one = add_build(yard, "porch", false, 1);
    return 0;
}

static int set_up(void **state)
{
    (void)set_up_bare(state);
    one = add_build(yard, "porch", false, 1);
    two = add_build(yard, "porch", false, 2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    yard_free(yard);
    one = two = NULL;
    return 0;
}

/* --- whose word ----------------------------------------------------------------------------------------------------
 */

/* Else a device gets what nobody meant for it, or what was meant for it is passed over. */
static void test_whose_word(void **state)
{
    (void)state;
    (void)add_build(yard, "garage", false, 9);
    assert_int_equal(asks(yard, 1, one), REASON_NEWER);
    assert_int_equal(asks(yard, 1, two), REASON_SAME_DIGEST);
    pin_to(yard, 2, "1.0");
    assert_int_equal(asks(yard, 2, two), REASON_PINNED);
    assert_int_equal(asks(yard, 2, one), REASON_SAME_DIGEST);
    pin_to(yard, 3, "7.0");
    assert_int_equal(asks(yard, 3, one), REASON_NO_IMAGE);
    assign(yard, "5ccf7f000004", "garage newest");
    assert_int_equal(asks(yard, 4, one), REASON_NEWER); /* it asks as porch: that line does not speak */
    struct asking asking = { .mac = yard_mac(4), .type = "" };
    struct reply reply = ask(yard, &asking);
    assert_string_equal(reply.served->type, "garage");
    asking.mac = yard_mac(5);
    assert_int_equal(ask(yard, &asking).reason, REASON_UNASSIGNED);
    assign(yard, "5ccf7f000006", "porch 1.0");
    assert_int_equal(asks(yard, 6, two), REASON_ASSIGNED);
}

/* An address that names a version asks for that one; an operator's word goes before, also that which keeps it back. */
static void test_an_address_with_a_version(void **state)
{
    (void)state;
    struct asking asking = porch(1, two);
    asking.version = "1.0";
    assert_ptr_equal(ask(yard, &asking).served, one);
    pin_to(yard, 1, "2.0");
    assert_int_equal(ask(yard, &asking).reason, REASON_SAME_DIGEST);
    set_blocked(yard, 1, true);
    asking.runs = one;
    assert_int_equal(ask(yard, &asking).reason, REASON_BLOCKED);

    struct rollout_order order = order_of(yard, two);
    struct rollout *rollout = roll_out(yard, ID_A, &order, 2, 4);
    asking = porch(9, one);
    asking.version = "2.0";
    const char *why;
    assert_int_equal(rollout_abort(rollout, "it hangs", &yard->now, &why), STATUS_OK);
    assert_int_equal(ask(yard, &asking).reason, REASON_HELD_BACK);
}

static void test_an_unpublished_version(void **state)
{
    (void)state;
    struct asking asking = porch(1, NULL);
    asking.version = "1.0";
    assert_int_equal(ask(yard, &asking).reason, REASON_UNPUBLISHED);
}

/* Else what was dropped in goes out before an operator said so, or never. */
static void test_published(void **state)
{
    (void)state;
    assert_int_equal(asks(yard, 1, NULL), REASON_UNPUBLISHED);
    struct rollout_order order = order_of(yard, one);
    struct rollout *rollout = roll_out(yard, ID_A, &order, 1, 1);
    assert_int_equal(takes(yard, 1, NULL, one, one), REASON_SAME_DIGEST);
    assert_int_equal(rollout->state, ROLLOUT_DONE);
    two = add_build(yard, "porch", false, 2);
    assert_int_equal(asks(yard, 1, one), REASON_SAME_DIGEST); /* it waits */
    assert_int_equal(asks(yard, 5, NULL), REASON_PUBLISHED);
    assert_int_equal(asks(yard, 6, two), REASON_PUBLISHED); /* back to what was published */
}

/* Else the newest comes back by itself after an operator went to an older one; or its successor does not come. */
static void test_the_way_back(void **state)
{
    (void)state;
    struct rollout_order order = order_of(yard, one);
    assert_string_equal(order.target.passed_over, "2.0");
    (void)roll_out(yard, ID_A, &order, 1, 1);
    assert_int_equal(takes(yard, 1, two, one, one), REASON_SAME_DIGEST);
    assert_int_equal(asks(yard, 2, two), REASON_PUBLISHED); /* whoever asks goes back */
    assert_int_equal(asks(yard, 3, one), REASON_SAME_DIGEST);
    const struct build *three = add_build(yard, "porch", false, 3);
    struct asking asking = porch(3, one);
    assert_ptr_equal(ask(yard, &asking).served, three);
}

/* --- may it --------------------------------------------------------------------------------------------------------
 */

/* Else a stolen device, or a stranger, is served. */
static void test_policy_goes_first(void **state)
{
    (void)state;
    one = add_build(yard, "porch", false, 1);
    yard->fleet.settings.hold_unknown = true;
    assert_int_equal(asks(yard, 1, NULL), REASON_UNAPPROVED);
    pin_to(yard, 1, "1.0");
    assert_int_equal(asks(yard, 1, NULL), REASON_UNAPPROVED);
    struct policy_entry entry = said_of(yard, 1);
    entry.approved = true;
    say_of(yard, &entry);
    assert_int_equal(asks(yard, 1, NULL), REASON_PINNED);
    set_blocked(yard, 1, true);
    assert_int_equal(asks(yard, 1, NULL), REASON_BLOCKED);
    assert_int_equal(said_of(yard, 1).unix_s, yard->now.unix_s);
    struct rollout_order order = order_of(yard, one);
    struct rollout *rollout = roll_out(yard, ID_A, &order, 1, 2);
    assert_int_equal(asks(yard, 1, NULL), REASON_BLOCKED);
    assert_string_equal(member_state(yard, rollout, 1), "skipped");
    assert_string_equal(member_state(yard, rollout, 2), "triggered");
}

/* Else the stages of a rollout hold only those who were told. */
static void test_pollers_are_held_to_it(void **state)
{
    (void)state;
    struct rollout_order order = order_of(yard, two);
    order.canary = 1;
    struct rollout *rollout = roll_out(yard, ID_A, &order, 1, 3);
    assert_int_equal(asks(yard, 2, one), REASON_HELD_BACK);
    assert_int_equal(asks(yard, 9, one), REASON_HELD_BACK); /* a stranger joins, and waits */
    assert_string_equal(member_state(yard, rollout, 9), "queued");
    assert_int_equal(takes(yard, 1, one, two, two), REASON_SAME_DIGEST);
    assert_int_equal(rollout->state, ROLLOUT_RUNNING);
    assert_int_equal(asks(yard, 2, one), REASON_PUBLISHED);
    const char *why;
    (void)rollout_pause(rollout, &yard->now, &why);
    assert_int_equal(asks(yard, 9, one), REASON_PAUSED);
}

/* Else an image that some are to have first is the newest for all others. */
static void test_those_who_are_not_meant(void **state)
{
    (void)state;
    put_in_group(yard, 1, "upstairs");
    put_in_group(yard, 2, "upstairs");
    struct rollout_order order = order_of(yard, two);
    order.max_failures = 0;
    snprintf(order.group, sizeof order.group, "upstairs");
    struct rollout *rollout = roll_out(yard, ID_A, &order, 1, 2);
    assert_int_equal(asks(yard, 9, one), REASON_HELD_BACK);
    assert_string_equal(member_state(yard, rollout, 9), "none");
    pin_to(yard, 8, "2.0");
    assert_int_equal(asks(yard, 8, one), REASON_PINNED);
    struct direction anyone;
    fleet_direct(&yard->fleet, NULL, slice_of("porch"), false, NULL, &anyone);
    assert_int_equal(permit_build(yard, NULL, 0, &anyone, two, NULL, false).reason, REASON_HELD_BACK);
    (void)takes(yard, 1, one, two, one);
    (void)takes(yard, 2, one, two, one);
    assert_int_equal(rollout->state, ROLLOUT_HALTED);
    assert_int_equal(asks(yard, 9, one), REASON_HELD_BACK);
    assert_int_equal(permit_build(yard, NULL, 0, &anyone, two, NULL, false).reason, REASON_HELD_BACK);
    assert_int_equal(asks(yard, 9, two), REASON_SAME_DIGEST); /* who has it, has it */
}

/* Who asks for a file by its name is held to what is said of that file. Else a pin to another lets through what was
 * halted; or a rollout speaks of its own file, which is not the one that was asked for. */
static void test_asked_for_by_name(void **state)
{
    (void)state;
    struct rollout_order order = order_of(yard, two);
    struct rollout *rollout = roll_out(yard, ID_A, &order, 1, 1);
    const char *why;
    pin_to(yard, 8, "1.0");
    struct mac pinned = yard_mac(8), member = yard_mac(1);
    const struct {
        const struct mac *mac;
        const struct build *build;
        enum reason reason;
    } named[] = {
        { &pinned, two, REASON_PAUSED },
        { &pinned, one, REASON_COUNT },
        { &member, two, REASON_PAUSED },
        { &member, one, REASON_COUNT },
    };
    assert_int_equal(rollout_pause(rollout, &yard->now, &why), STATUS_OK);
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        struct direction direction;
        struct permission permission;
        struct candidate candidate = { .type = slice_of("porch"),
                                       .form_count = 1,
                                       .file_md5 = { named[i].build->file },
                                       .run_md5 = named[i].build->run,
                                       .served_max = LOOP_GUARD_MAX,
                                       .by_name = true };
        fleet_direct(&yard->fleet, named[i].mac, slice_of("porch"), false, NULL, &direction);
        fleet_permit(&yard->fleet, named[i].mac, 0, &direction, &candidate, &yard->now, &permission);
        assert_int_equal(permission.reason, named[i].reason);
    }
}

/* Else devices get another file than the one that was ordered. */
static void test_the_file_was_replaced(void **state)
{
    (void)state;
    one = add_build(yard, "porch", false, 1);
    struct rollout_order order = order_of(yard, one);
    (void)roll_out(yard, ID_A, &order, 1, 1);
    one->gone = true;
    (void)add_build(yard, "porch", false, 1);
    struct asking asking = porch(1, NULL);
    struct reply reply = ask(yard, &asking);
    assert_int_equal(reply.reason, REASON_HELD_BACK);
    assert_non_null(strstr(reply.detail, "order it again"));
}

/* Else a device that cannot flash is flashed until its flash is worn out; or is given up after one try. */
static void test_tries_in_the_open(void **state)
{
    (void)state;
    struct mac mac = yard_mac(1);
    (void)asks(yard, 1, one);
    for (int i = 0; i < LOOP_GUARD_MAX; i++) {
        assert_int_equal(asks(yard, 1, one), REASON_NEWER);
        send_whole(yard, &mac, two);
    }
    assert_int_equal(asks(yard, 1, one), REASON_LOOP_GUARD);
    assert_string_equal(outcome_of(yard, 1), "old-build");
    assert_int_equal(record(yard, 1)->transfer.failures, 3);
    pass_ms(yard, LOOP_GUARD_BACKOFF_MS);
    assert_int_equal(asks(yard, 1, one), REASON_NEWER);
    send_whole(yard, &mac, two);
    assert_int_equal(asks(yard, 1, one), REASON_NEVER_AGAIN);
    const struct build *three = add_build(yard, "porch", false, 3);
    assert_int_equal(asks(yard, 1, one), REASON_NEWER); /* a new build */
    send_whole(yard, &mac, three);
    assert_int_equal(asks(yard, 1, three), REASON_SAME_DIGEST);
    assert_int_equal(record(yard, 1)->transfer.failures, 0);
}

/* Else one that asks once a day is flashed every day. */
static void test_tries_of_a_slow_one(void **state)
{
    (void)state;
    struct mac mac = yard_mac(1);
    for (int i = 0; i < LOOP_GUARD_MAX + 1; i++) {
        assert_int_equal(asks(yard, 1, one), REASON_NEWER);
        send_whole(yard, &mac, two);
        pass_ms(yard, LOOP_GUARD_BACKOFF_MAX_MS + 1);
    }
    assert_int_equal(asks(yard, 1, one), REASON_NEVER_AGAIN); /* in the very check that proves it */
    assert_int_equal(asks(yard, 1, one), REASON_NEVER_AGAIN);
}

/* The guard forgets. Else a device that fails every night is flashed every day where the server restarts every day. */
static void test_tries_over_restarts(void **state)
{
    (void)state;
    struct mac mac = yard_mac(1);
    for (int i = 0; i < LOOP_GUARD_MAX + 1; i++) {
        assert_int_equal(asks(yard, 1, one), REASON_NEWER);
        send_whole(yard, &mac, two);
        loop_guard_free(yard->fleet.guard);
        yard->fleet.guard = loop_guard_new(10000);
    }
    assert_int_equal(asks(yard, 1, one), REASON_NEVER_AGAIN);
    assert_int_equal(asks(yard, 1, one), REASON_NEVER_AGAIN);
    (void)fleet_retry(&yard->fleet, &mac, &yard->now);
    assert_int_equal(asks(yard, 1, one), REASON_NEWER);
}

/* Two devices with one MAC: one came, with the new build, while the other was sent it. Else that one is sent it for
 * ever. */
static void test_a_twin_comes_between(void **state)
{
    (void)state;
    struct mac mac = yard_mac(1);
    assert_int_equal(asks(yard, 1, one), REASON_NEWER);
    send_begins(yard, &mac, two);
    assert_int_equal(asks(yard, 1, two), REASON_SAME_DIGEST);
    send_ends_of(yard, &mac, two, one, true);
    assert_int_equal(asks(yard, 1, two), REASON_SAME_DIGEST);
    assert_int_equal(asks(yard, 1, one), REASON_NEVER_AGAIN);
}

/* Else a device that went back by itself is sent there again at once. */
static void test_rolled_back(void **state)
{
    (void)state;
    struct mac mac = yard_mac(1);
    (void)asks(yard, 1, one);
    assert_int_equal(takes(yard, 1, one, two, two), REASON_SAME_DIGEST);
    assert_string_equal(outcome_of(yard, 1), "confirmed");
    assert_int_equal(asks(yard, 1, one), REASON_NEVER_AGAIN); /* at once */
    assert_string_equal(outcome_of(yard, 1), "rolled-back");
    assert_int_equal(asks(yard, 1, one), REASON_NEVER_AGAIN);
    assert_int_equal(fleet_retry(&yard->fleet, &mac, &yard->now), 1);
    assert_int_equal(record(yard, 1)->transfer.failures, 0);
    assert_int_equal(asks(yard, 1, one), REASON_NEWER);
}

/* --- what a check-in means for rollouts ------------------------------------------------------------------------------
 */

/* Else a failed device is flashed again while it counts as failed, beside the window. */
static void test_one_try_in_a_rollout(void **state)
{
    (void)state;
    struct rollout_order order = order_of(yard, two);
    struct rollout *rollout = roll_out(yard, ID_A, &order, 1, 3);
    (void)asks(yard, 1, one);
    assert_int_equal(takes(yard, 1, one, two, one), REASON_HELD_BACK);
    assert_string_equal(member_state(yard, rollout, 1), "failed");
    assert_int_equal(rollout->failures, 1);
    assert_int_equal(asks(yard, 1, one), REASON_HELD_BACK);
    (void)asks(yard, 2, one);
    (void)takes(yard, 2, one, two, two);
    assert_string_equal(member_state(yard, rollout, 2), "confirmed");
    (void)asks(yard, 2, one); /* and goes back */
    assert_string_equal(member_state(yard, rollout, 2), "failed");
}

/* Else a mislabelled build fails everywhere, and devices that say no digest fail at success. */
static void test_labels_and_digests(void **state)
{
    (void)state;
    struct rollout_order order = order_of(yard, two);
    struct rollout *rollout = roll_out(yard, ID_A, &order, 1, 3);
    struct mac mac = yard_mac(1);
    struct asking asking = porch(1, one);
    assert_ptr_equal(ask(yard, &asking).served, two);
    send_whole(yard, &mac, two);
    asking.runs = two;
    asking.label = "1.0";
    struct reply reply = ask(yard, &asking);
    assert_int_equal(reply.verdict.outcome, OUTCOME_CONFIRMED);
    assert_true(reply.verdict.wrong_label);
    assert_string_equal(member_state(yard, rollout, 1), "confirmed");

    mac = yard_mac(2);
    asking = porch(2, one);
    asking.says_no_digest = true;
    assert_ptr_equal(ask(yard, &asking).served, two);
    send_whole(yard, &mac, two);
    asking.runs = two;
    assert_int_equal(ask(yard, &asking).verdict.outcome, OUTCOME_CONFIRMED);
    assert_string_equal(member_state(yard, rollout, 2), "confirmed");

    mac = yard_mac(3);
    asking = porch(3, one);
    asking.says_no_digest = true;
    (void)ask(yard, &asking);
    send_whole(yard, &mac, two);
    assert_int_equal(ask(yard, &asking).verdict.outcome, OUTCOME_OLD_BUILD);
    assert_string_equal(member_state(yard, rollout, 3), "failed");
}

/* The first ESP32 cores say no MD5. Else such a device is never confirmed where it says no version either, and one that
 * rolls back is sent the image again with each turn, for ever: also to a build that nobody knows. */
static void test_sha256_alone(void **state)
{
    (void)state;
    const struct build *const befores[] = { one, NULL };
    for (unsigned i = 0; i < 2; i++) {
        struct mac mac = yard_mac(i);
        struct asking asking = porch(i, befores[i]);
        asking.says_sha256 = asking.says_no_version = true;
        assert_ptr_equal(ask(yard, &asking).served, two);
        send_whole(yard, &mac, two);
        asking.runs = two;
        assert_int_equal(ask(yard, &asking).verdict.outcome, OUTCOME_CONFIRMED);
        assert_memory_equal(record(yard, i)->md5, two->run, 16);
        asking.runs = befores[i];
        struct reply reply = ask(yard, &asking);
        assert_int_equal(reply.verdict.outcome, OUTCOME_ROLLED_BACK);
        assert_int_equal(reply.reason, REASON_NEVER_AGAIN);
        assert_int_equal(ask(yard, &asking).reason, REASON_NEVER_AGAIN);
    }
}

/* Else a device that did as it was told has failed, because the next build took the place of the file meanwhile. */
static void test_the_file_is_gone(void **state)
{
    (void)state;
    struct mac mac = yard_mac(1);
    assert_int_equal(asks(yard, 1, one), REASON_NEWER);
    send_whole(yard, &mac, two);
    two->gone = true;
    struct asking asking = porch(1, two);
    assert_int_equal(ask(yard, &asking).verdict.outcome, OUTCOME_CONFIRMED);

    two->gone = false;
    struct rollout_order order = order_of(yard, two);
    memset(order.target.run_md5[order.target.run_md5_count++], 0xee, 16); /* as one says it that runs nothing known */
    struct rollout *rollout = roll_out(yard, ID_A, &order, 2, 2);         /* else it is over, and forgets who has it */
    mac = yard_mac(2);
    assert_int_equal(asks(yard, 2, one), REASON_PUBLISHED);
    send_whole(yard, &mac, two);
    two->gone = true;
    asking = porch(2, NULL);
    assert_int_equal(ask(yard, &asking).verdict.outcome, OUTCOME_CONFIRMED);
    assert_string_equal(member_state(yard, rollout, 2), "confirmed");
}

/* A file system has no digest, and the sketch beside it is another matter. */
static void test_file_systems(void **state)
{
    (void)state;
    const struct build *sketch = add_build(yard, "porch", false, 1);
    one = add_build(yard, "porch", true, 1);
    two = add_build(yard, "porch", true, 2);
    struct rollout_order order = order_of(yard, two);
    struct rollout *rollout = roll_out(yard, ID_A, &order, 1, 2);
    struct mac mac = yard_mac(1);
    struct asking asking = porch(1, one);
    asking.fs = true;
    assert_int_equal(asks(yard, 1, sketch), REASON_SAME_DIGEST);
    assert_string_equal(member_state(yard, rollout, 1), "triggered");
    assert_ptr_equal(ask(yard, &asking).served, two);
    send_whole(yard, &mac, two);
    (void)asks(yard, 1, sketch);
    assert_string_equal(fs_outcome_of(yard, 1), "open");
    assert_string_equal(member_state(yard, rollout, 1), "flashed");
    asking.runs = two;
    assert_int_equal(ask(yard, &asking).verdict.outcome, OUTCOME_CONFIRMED);
    assert_string_equal(member_state(yard, rollout, 1), "confirmed");

    mac = yard_mac(2);
    asking = porch(2, one);
    asking.fs = true;
    (void)ask(yard, &asking);
    send_whole(yard, &mac, two);
    assert_int_equal(ask(yard, &asking).verdict.outcome, OUTCOME_OLD_BUILD);
    assert_string_equal(member_state(yard, rollout, 2), "failed");
}

/* In whatever order they are sent and asked for: what is sent of one kind is no word on the other. Else a file system
 * that was sent just before a sketch is never judged, and one that fails is sent for ever. */
static void test_both_kinds_at_once(void **state)
{
    for (unsigned order = 0; order < 4; order++) {
        (void)tear_down(state);
        (void)set_up_bare(state);
        const struct build *old = add_build(yard, "porch", false, 1), *old_fs = add_build(yard, "porch", true, 1);
        const struct build *sketch = add_build(yard, "porch", false, 2), *fs = add_build(yard, "porch", true, 2);
        struct mac mac = yard_mac(1);
        struct asking asks_fs = porch(1, old_fs);
        asks_fs.fs = true;
        (void)ask(yard, &asks_fs);
        (void)asks(yard, 1, old);
        bool fs_first = order % 2 == 0, flashes = order < 2;
        send_whole(yard, &mac, fs_first ? fs : sketch);
        send_whole(yard, &mac, fs_first ? sketch : fs);
        assert_string_equal(outcome_of(yard, 1), "open");
        assert_string_equal(fs_outcome_of(yard, 1), "open");
        (void)asks(yard, 1, sketch);
        assert_string_equal(outcome_of(yard, 1), "confirmed");
        assert_string_equal(fs_outcome_of(yard, 1), "open");
        asks_fs.runs = flashes ? fs : old_fs;
        assert_int_equal(ask(yard, &asks_fs).verdict.outcome, flashes ? OUTCOME_CONFIRMED : OUTCOME_OLD_BUILD);
        assert_string_equal(outcome_of(yard, 1), "confirmed");
        assert_int_equal(device_sent(record(yard, 1), true)->failures, !flashes);
        assert_int_equal(record(yard, 1)->transfer.failures, 0);
        (void)asks(yard, 1, old);
        assert_string_equal(outcome_of(yard, 1), "rolled-back"); /* as ever, though a file system came between */
        assert_string_equal(fs_outcome_of(yard, 1), flashes ? "confirmed" : "old-build");
    }
}

/* It does not say which: the last that is open. */
static void test_a_report_of_two_kinds(void **state)
{
    (void)state;
    const struct build *old = add_build(yard, "porch", false, 1), *sketch = add_build(yard, "porch", false, 2);
    const struct build *fs = add_build(yard, "porch", true, 2);
    struct device_report report = { .state = REPORT_FAILED };
    struct mac mac = yard_mac(1);
    (void)asks(yard, 1, old);
    send_whole(yard, &mac, sketch);
    pass_ms(yard, 5000);
    send_whole(yard, &mac, fs);
    fleet_reported(&yard->fleet, &mac, &report, &yard->now);
    assert_string_equal(outcome_of(yard, 1), "open");
    assert_string_equal(fs_outcome_of(yard, 1), "reported");
    fleet_reported(&yard->fleet, &mac, &report, &yard->now);
    assert_string_equal(outcome_of(yard, 1), "reported");
}

/* Else a device that is pinned, or has the wrong chip, is told again and again. */
static void test_withheld(void **state)
{
    (void)state;
    struct rollout_order order = order_of(yard, two);
    struct rollout *rollout = roll_out(yard, ID_A, &order, 1, 2);
    pin_to(yard, 1, "1.0");
    assert_int_equal(asks(yard, 1, one), REASON_SAME_DIGEST);
    assert_string_equal(member_state(yard, rollout, 1), "skipped");
    pin_to(yard, 2, "2.0"); /* to the very build: it is served in any case */
    struct asking asking = porch(2, one);
    assert_ptr_equal(ask(yard, &asking).served, two);
}

/* --- transfers, reports ---------------------------------------------------------------------------------------------
 */

/* Else pieces count as whole transfers, or cuts as the image's fault. */
static void test_cuts_and_ranges(void **state)
{
    (void)state;
    struct rollout_order order = order_of(yard, two);
    struct rollout *rollout = roll_out(yard, ID_A, &order, 1, 1);
    struct mac mac = yard_mac(1);
    char text[8];
    version_text(two, text);
    (void)asks(yard, 1, one);
    struct sending part = sending_of(&mac, two, text);
    struct sending_end end = { .whole = true, .bytes = 64, .of = 64, .ms = 1 };
    part.full = false;
    for (int i = 0; i < 2 * LOOP_GUARD_MAX; i++) {
        fleet_sending_begins(&yard->fleet, &part, &yard->now);
        fleet_sending_ended(&yard->fleet, &part, &end, &yard->now);
        assert_string_equal(member_state(yard, rollout, 1), "downloading");
        assert_int_equal(asks(yard, 1, one), REASON_PUBLISHED);
    }
    assert_string_equal(outcome_of(yard, 1), "none");
    send_begins(yard, &mac, two);
    send_ends(yard, &mac, two, false);
    assert_string_equal(outcome_of(yard, 1), "cut");
    assert_int_equal(record(yard, 1)->transfer.failures, 1);
    assert_string_equal(member_state(yard, rollout, 1), "queued");
    assert_int_equal(never_again_count(yard->fleet.never_again), 0);
    send_whole(yard, NULL, two); /* a client that names no device */
    assert_int_equal(rollout->anonymous, 1);
}

/* Else a device's own word is worth less than its silence, or more than its digest. */
static void test_reports(void **state)
{
    (void)state;
    struct rollout_order order = order_of(yard, two);
    struct rollout *rollout = roll_out(yard, ID_A, &order, 1, 3);
    struct mac mac = yard_mac(1);
    struct device_report report = { .state = REPORT_FAILED, .error = "flash write" };
    (void)asks(yard, 1, one);
    send_whole(yard, &mac, two);
    fleet_reported(&yard->fleet, &mac, &report, &yard->now);
    assert_string_equal(outcome_of(yard, 1), "reported");
    assert_string_equal(member_state(yard, rollout, 1), "failed");
    (void)asks(yard, 1, two);
    assert_string_equal(outcome_of(yard, 1), "confirmed");
    assert_string_equal(member_state(yard, rollout, 1), "confirmed");
    mac = yard_mac(77);
    fleet_reported(&yard->fleet, &mac, &report, &yard->now); /* never seen */
    report.state = REPORT_RUNNING;
    mac = yard_mac(2);
    fleet_reported(&yard->fleet, &mac, &report, &yard->now);
    assert_string_equal(member_state(yard, rollout, 2), "triggered");
}

static void test_online(void **state)
{
    (void)state;
    struct mac mac = yard_mac(1);
    fleet_said_online(&yard->fleet, &mac, slice_of(""), true, &yard->now);
    assert_int_equal(devices_count(yard->fleet.devices), 0);
    assert_int_equal(devices_forgotten(yard->fleet.devices), 0);
    fleet_said_online(&yard->fleet, &mac, slice_of("garage"), true, &yard->now);
    assert_true(record(yard, 1)->online);
    assert_int_equal(record(yard, 1)->first_seen_s, yard->now.unix_s);
    uint32_t met_s = yard->now.unix_s;
    pass_ms(yard, 60000);
    (void)add_build(yard, "porch", false, 1);
    (void)asks(yard, 1, NULL);
    fleet_said_online(&yard->fleet, &mac, slice_of("garage"), false, &yard->now);
    assert_string_equal(words_text(yard->fleet.words, record(yard, 1)->type->name), "porch");
    assert_false(record(yard, 1)->online);
    assert_int_equal(record(yard, 1)->first_seen_s, met_s); /* it was here before it asked */
}

/* Else strangers that are kept out fill the memory over MQTT. */
static void test_who_is_kept_out_is_not_online(void **state)
{
    (void)state;
    struct mac mac = yard_mac(1);
    yard->fleet.settings.refuse_unknown = yard->fleet.settings.hold_unknown = true;
    fleet_said_online(&yard->fleet, &mac, slice_of("garage"), true, &yard->now);
    assert_int_equal(devices_count(yard->fleet.devices), 0);
    yard->fleet.settings.refuse_unknown = false;
    yard->fleet.settings.block_macs = (struct mac_list){ .count = 1, .prefixes = { { .count = 6 } } };
    memcpy(yard->fleet.settings.block_macs.prefixes[0].bytes, mac.bytes, sizeof mac.bytes);
    fleet_said_online(&yard->fleet, &mac, slice_of("garage"), true, &yard->now);
    assert_int_equal(devices_count(yard->fleet.devices), 0);
    yard->fleet.settings.block_macs.count = 0;
    fleet_said_online(&yard->fleet, &mac, slice_of("garage"), true, &yard->now);
    assert_true(record(yard, 1)->online);
}

/* Else a device that is still restarting is silent, or one that is gone never is. */
static void test_silent(void **state)
{
    (void)state;
    struct mac mac = yard_mac(1);
    (void)asks(yard, 1, one);
    send_whole(yard, &mac, two);
    pass_ms(yard, 60000);
    assert_int_equal(fleet_outcome(&record(yard, 1)->transfer, 60, &yard->now), OUTCOME_OPEN);
    pass_ms(yard, 1000);
    assert_int_equal(fleet_outcome(&record(yard, 1)->transfer, 60, &yard->now), OUTCOME_SILENT);
    struct moment before = { .ms = yard->now.ms, .unix_s = 1000 }; /* the calendar jumped */
    assert_int_equal(fleet_outcome(&record(yard, 1)->transfer, 60, &before), OUTCOME_OPEN);
    (void)asks(yard, 1, two);
    assert_int_equal(fleet_outcome(&record(yard, 1)->transfer, 60, &yard->now), OUTCOME_CONFIRMED);
}

/* Else one uplink counts as many, or many as one. */
static void test_sites(void **state)
{
    static const struct {
        uint8_t a[4], b[4];
        bool same;
    } rows[] = {
        { { 192, 168, 1, 4 }, { 192, 168, 1, 99 }, true },    { { 192, 168, 1, 4 }, { 192, 168, 2, 4 }, false },
        { { 10, 1, 2, 3 }, { 10, 1, 2, 4 }, true },           { { 10, 1, 2, 3 }, { 10, 1, 3, 3 }, false },
        { { 172, 16, 0, 1 }, { 172, 16, 0, 2 }, true },       { { 172, 31, 255, 1 }, { 172, 31, 255, 2 }, true },
        { { 172, 32, 0, 1 }, { 172, 32, 0, 2 }, false },      { { 169, 254, 7, 1 }, { 169, 254, 7, 2 }, true },
        { { 127, 0, 0, 1 }, { 127, 0, 0, 2 }, true },         { { 100, 64, 0, 1 }, { 100, 64, 0, 2 }, true },
        { { 100, 127, 255, 1 }, { 100, 127, 255, 2 }, true }, { { 100, 128, 0, 1 }, { 100, 128, 0, 2 }, false },
        { { 100, 63, 255, 1 }, { 100, 63, 255, 2 }, false },  { { 203, 0, 113, 7 }, { 203, 0, 113, 7 }, true },
        { { 203, 0, 113, 7 }, { 203, 0, 113, 8 }, false }, /* another home */
    };
    (void)state;
    uint8_t none[16] = { 0 };
    assert_int_equal(fleet_site(none), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t a[16] = { [10] = 0xff, [11] = 0xff }, b[16] = { [10] = 0xff, [11] = 0xff };
        memcpy(a + 12, rows[i].a, 4);
        memcpy(b + 12, rows[i].b, 4);
        assert_true(fleet_site(a) != 0);
        assert_int_equal(fleet_site(a) == fleet_site(b), rows[i].same);
    }
    uint8_t v6[16] = { 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 7, 1 }, same[16] = { 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 7, 2 };
    assert_int_equal(fleet_site(v6), fleet_site(same));
    same[7] = 8;
    assert_int_not_equal(fleet_site(v6), fleet_site(same));
}

/* Else a forgotten device is still held, or what was said of it comes back. */
static void test_forgotten(void **state)
{
    (void)state;
    struct mac mac = yard_mac(1);
    uint64_t ticket;
    assert_int_equal(fleet_forget(&yard->fleet, &mac, &yard->now, &ticket), STATUS_NOT_FOUND);
    (void)asks(yard, 1, one);
    (void)takes(yard, 1, one, two, two);
    (void)asks(yard, 1, one);
    put_in_group(yard, 1, "upstairs");
    assert_int_equal(fleet_forget(&yard->fleet, &mac, &yard->now, &ticket), STATUS_OK);
    assert_int_equal(devices_count(yard->fleet.devices), 0);
    assert_int_equal(policies_count(yard->fleet.policies), 0);
    assert_int_equal(words_count(yard->fleet.words), 0);
    assert_int_equal(asks(yard, 1, one), REASON_NEWER);
}

#define TEST(name)           cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define BARE_TEST(name)      cmocka_unit_test_setup_teardown(name, set_up_bare, tear_down)
#define PUBLISHED_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_published, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_whose_word),
        TEST(test_an_address_with_a_version),
        PUBLISHED_TEST(test_published),
        PUBLISHED_TEST(test_an_unpublished_version),
        TEST(test_the_way_back),
        BARE_TEST(test_policy_goes_first),
        TEST(test_pollers_are_held_to_it),
        TEST(test_those_who_are_not_meant),
        TEST(test_asked_for_by_name),
        BARE_TEST(test_the_file_was_replaced),
        TEST(test_tries_in_the_open),
        TEST(test_tries_of_a_slow_one),
        TEST(test_tries_over_restarts),
        TEST(test_a_twin_comes_between),
        TEST(test_rolled_back),
        TEST(test_one_try_in_a_rollout),
        TEST(test_labels_and_digests),
        TEST(test_sha256_alone),
        TEST(test_the_file_is_gone),
        BARE_TEST(test_file_systems),
        BARE_TEST(test_both_kinds_at_once),
        BARE_TEST(test_a_report_of_two_kinds),
        TEST(test_withheld),
        TEST(test_cuts_and_ranges),
        TEST(test_reports),
        BARE_TEST(test_online),
        BARE_TEST(test_who_is_kept_out_is_not_online),
        TEST(test_silent),
        cmocka_unit_test(test_sites),
        TEST(test_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
