/* All rollouts together: whom each means, which gives way to which, whose word goes, what keeps an image back, and what
 * is forgotten.
 */
#include "tests/unit/fleet/rollout_fixture.h"

#define ID_A "00000000000000aa"
#define ID_B "00000000000000bb"
#define ID_C "00000000000000cc"

static const uint8_t other_md5[16] = { 8 };

static struct slice porch(void)
{
    return slice_of("porch");
}

static const char *word_for(const struct world *world, int device, bool published)
{
    struct mac mac = mac_of(device);
    const struct rollout *rollout = rollouts_for(world->rollouts, &mac, porch(), false, published);
    return rollout != NULL ? rollout->id : "none";
}

static struct rollout *rollout_of(const struct world *world, const char *id)
{
    struct rollout *rollout = rollouts_find(world->rollouts, slice_of(id));
    assert_non_null(rollout);
    return rollout;
}

static void ask_all_of(struct world *world, const char *group)
{
    snprintf(world->order.group, sizeof world->order.group, "%s", group);
}

/* Begins, joins `count` devices from the first-th on, and starts. */
static void order(struct world *world, const char *id, int first, int count)
{
    begin_as(world, id);
    for (int i = first; i < first + count; i++) {
        join_at(world, i, (uint64_t)i);
    }
    start(world);
}

/* --- whom it means --------------------------------------------------------------------------------------------------
 */

static void test_named(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    struct mac devices[] = { mac_of(9), mac_of(3), mac_of(70000), mac_of(4) };
    world->order.named = true;
    world->order.devices = devices;
    world->order.device_count = 4;
    begin_as(world, ID_A);
    memset(devices, 0, sizeof devices); /* copied */
    for (int i = 0; i < 12; i++) {
        struct mac mac = mac_of(i);
        assert_int_equal(rollout_selects(world->rollouts, world->rollout, &mac), i == 9 || i == 3 || i == 4);
    }
    world_free(world);
}

static size_t selected(const struct world *world, int count)
{
    size_t n = 0;
    for (int i = 0; i < count; i++) {
        struct mac mac = mac_of(i);
        n += rollout_selects(world->rollouts, world->rollout, &mac);
    }
    return n;
}

/* Else a tenth of the fleet is a third of it, or another tenth after each restart. */
static void test_percent(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    for (unsigned percent = 1; percent <= 100; percent += 9) {
        world->order.percent = percent;
        begin_as(world, ID_A);
        size_t n = selected(world, 20000);
        assert_in_range(n, percent * 200 - (percent < 100 ? 180 : 0), percent * 200 + 180);
        rollouts_free(world->rollouts);
        world_rollouts(world);
        begin_as(world, ID_A);
        assert_int_equal(selected(world, 20000), n);
        world->rollout = NULL;
        rollouts_free(world->rollouts);
        world_rollouts(world);
    }
    world_free(world);
}

/* Else the same tenth is tried every time. */
static void test_percent_draws_anew_for_each(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    size_t both = 0;
    world->order.percent = 10;
    begin_as(world, ID_A);
    const struct rollout *first = world->rollout;
    begin_as(world, ID_B);
    for (int i = 0; i < 20000; i++) {
        struct mac mac = mac_of(i);
        both += rollout_selects(world->rollouts, first, &mac) && rollout_selects(world->rollouts, world->rollout, &mac);
    }
    assert_in_range(both, 120, 280); /* a hundredth */
    world_free(world);
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, ANNOUNCE_ID_SIZE);
}

/* Else a device takes one command for a repetition of another. */
static void test_command_ids_differ(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    enum { DEVICES = 3000, ATTEMPTS = 5, COUNT = 2 * (DEVICES * ATTEMPTS + ATTEMPTS) };
    char(*ids)[ANNOUNCE_ID_SIZE] = calloc(COUNT, sizeof *ids);
    size_t n = 0;
    world->order.percent = 50; /* so that the second leaves the first alone */
    for (int i = 0; i < 2; i++) {
        begin_as(world, i == 0 ? ID_A : ID_B);
        for (unsigned attempt = 1; attempt <= ATTEMPTS; attempt++) {
            rollout_command_id(world->rollout, NULL, attempt, ids[n++]);
            for (int device = 0; device < DEVICES; device++) {
                struct mac mac = mac_of(device);
                rollout_command_id(world->rollout, &mac, attempt, ids[n++]);
            }
        }
    }
    qsort(ids, COUNT, sizeof *ids, compare_ids);
    for (size_t i = 1; i < COUNT; i++) {
        assert_true(strlen(ids[i]) == 16 && memcmp(ids[i - 1], ids[i], ANNOUNCE_ID_SIZE) != 0);
    }
    free(ids);
    world_free(world);
}

/* --- which gives way ------------------------------------------------------------------------------------------------
 */

/* Else two rollouts of one type fight over the same devices. */
static void test_superseded_whole(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    order(world, ID_A, 0, 3);
    ask_all_of(world, "upstairs");
    order(world, ID_B, 10, 2);
    ask_all_of(world, "");
    order(world, ID_C, 0, 3);
    for (int i = 0; i < 2; i++) {
        const struct rollout *older = rollout_of(world, i == 0 ? ID_A : ID_B);
        assert_int_equal(older->state, ROLLOUT_ABORTED);
        assert_string_equal(older->why, "superseded by " ID_C);
        assert_false(older->distrusted);
    }
    assert_string_equal(world->rollout->supersedes, ID_A);
    assert_string_equal(word_for(world, 0, false), ID_C);
    world_free(world);
}

/* A file system and a sketch, and two types, do not meet. */
static void test_others_go_on(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    order(world, ID_A, 0, 2);
    world->order.target.fs = true;
    order(world, ID_B, 0, 2);
    world->order.target.fs = false;
    snprintf(world->order.target.type, sizeof world->order.target.type, "garage");
    order(world, ID_C, 0, 2);
    assert_int_equal(rollout_of(world, ID_A)->state, ROLLOUT_RUNNING);
    assert_int_equal(rollout_of(world, ID_B)->state, ROLLOUT_RUNNING);
    assert_string_equal(rollout_of(world, ID_C)->supersedes, "");
    world_free(world);
}

/* Else an order for two devices ends the rollout of a thousand, or both are told of both. */
static void test_superseded_in_part(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 4;
    order(world, ID_A, 0, 5);
    updates(world, 3);
    world->group_first = 1;
    world->group_last = 3;
    ask_all_of(world, "upstairs");
    begin_as(world, ID_B);
    assert_int_equal(rollout_of(world, ID_A)->state, ROLLOUT_RUNNING);
    for (int i = 1; i <= 3; i++) {
        join_at(world, i, (uint64_t)i);
    }
    struct rollout_member member;
    struct rollout *older = rollout_of(world, ID_A);
    for (int i = 0; i < 5; i++) {
        struct mac mac = mac_of(i);
        assert_true(rollout_member(older, &mac, &member));
        assert_int_equal(member.state, i == 3             ? ROLLOUT_DEVICE_CONFIRMED
                                       : i == 1 || i == 2 ? ROLLOUT_DEVICE_SKIPPED
                                                          : ROLLOUT_DEVICE_TRIGGERED);
        assert_string_equal(word_for(world, i, false), i >= 1 && i <= 3 ? ID_B : ID_A);
    }
    assert_string_equal(world->rollout->supersedes, ID_A);
    start(world);
    world->rollout = older;
    updates(world, 0);
    updates(world, 4);
    assert_string_equal(word_of(world), "done");
    assert_string_equal(word_for(world, 5, false), "none");
    world_free(world);
}

/* Else a device that joined the group later is told by both. */
static void test_a_stranger_is_handed_over(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    order(world, ID_A, 0, 3);
    world->group_first = 1;
    world->group_last = 1;
    ask_all_of(world, "upstairs");
    order(world, ID_B, 1, 1);
    world->group_last = 2;
    struct rollout_fact fact = fact_of(2);
    check_in(world, &fact);
    struct rollout_member member;
    struct mac mac = mac_of(2);
    assert_true(rollout_member(rollout_of(world, ID_A), &mac, &member));
    assert_string_equal(member.why, "superseded by " ID_B);
    assert_true(rollout_member(rollout_of(world, ID_B), &mac, &member));
    world_free(world);
}

/* Else a rollout that is still gathering takes back what a newer one was ordered for. */
static void test_gathering_behind_a_newer_one(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    begin_as(world, ID_A);
    struct rollout *older = world->rollout;
    join_at(world, 0, 0);
    world->group_first = 1;
    world->group_last = 1;
    ask_all_of(world, "upstairs");
    order(world, ID_B, 1, 1);
    world->rollout = older;
    join_at(world, 1, 1);
    assert_string_equal(state_of(world, 1), "skipped");
    start(world);
    assert_int_equal(times_told(world, 1), 1); /* by the newer */
    assert_string_equal(word_for(world, 1, false), ID_B);
    world_free(world);
}

/* Else an old download of a device that was handed over counts in both. */
static void test_a_download_across(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    order(world, ID_A, 0, 2);
    assert_true(asks(world, 0));
    begins(world, 0);
    world->group_last = 0;
    ask_all_of(world, "upstairs");
    order(world, ID_B, 0, 1); /* the same image */
    begins(world, 0);
    ends(world, 0, true, NULL);
    ends(world, 0, true, NULL);
    struct rollout_member member;
    struct mac mac = mac_of(0);
    assert_true(rollout_member(rollout_of(world, ID_A), &mac, &member));
    assert_int_equal(member.state, ROLLOUT_DEVICE_SKIPPED);
    assert_string_equal(state_of(world, 0), "flashed");
    rollouts_reported_failure(world->rollouts, &mac, "it reported: flash", &world->now);
    assert_int_equal(rollout_of(world, ID_A)->failures, 0);
    assert_int_equal(rollout_of(world, ID_B)->failures, 1);
    world_free(world);
}

/* --- whose word -----------------------------------------------------------------------------------------------------
 */

static void finish(struct world *world, const char *id)
{
    order(world, id, 0, 1);
    updates(world, 0);
    assert_string_equal(word_of(world), "done");
}

/* Else the newest image comes back by itself after an operator went to an older one; or an older one stays for ever. */
static void test_the_word_of_a_type(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    finish(world, ID_A);
    assert_string_equal(word_for(world, 5, false), "none"); /* it was the newest: the newest it is */
    assert_string_equal(word_for(world, 5, true), ID_A);
    snprintf(world->order.target.passed_over, sizeof world->order.target.passed_over, "3.0");
    finish(world, ID_B);
    assert_string_equal(word_for(world, 5, false), ID_B);
    world->order.target.passed_over[0] = '\0';
    finish(world, ID_C);
    assert_string_equal(word_for(world, 5, false), "none");
    assert_string_equal(word_for(world, 5, true), ID_C);
    assert_null(rollouts_for(world->rollouts, NULL, slice_of("garage"), false, true));
    assert_null(rollouts_for(world->rollouts, NULL, porch(), true, true));
    assert_non_null(rollouts_for(world->rollouts, NULL, porch(), false, true));
    world_free(world);
}

/* Else a few that an operator took back to an older image are offered the newest again at their next check; or never.
 */
static void test_the_word_to_some(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->group_last = 3;
    ask_all_of(world, "upstairs");
    snprintf(world->order.target.passed_over, sizeof world->order.target.passed_over, "3.0");
    finish(world, ID_A);
    assert_string_equal(word_for(world, 3, false), ID_A);
    assert_string_equal(word_for(world, 4, false), "none");
    assert_null(rollouts_for(world->rollouts, NULL, porch(), false, false));
    world->order.target.passed_over[0] = '\0';
    world->group_last = 2;
    finish(world, ID_B); /* forward again */
    assert_string_equal(word_for(world, 2, false), "none");
    world->group_last = 3;
    finish(world, ID_C);
    assert_string_equal(word_for(world, 3, false), "none");
    world_free(world);
}

/* Where only what was published is given: to those it was published to. */
static void test_published_to_some(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->group_last = 3;
    ask_all_of(world, "upstairs");
    finish(world, ID_A);
    assert_string_equal(word_for(world, 3, true), ID_A);
    assert_string_equal(word_for(world, 4, true), "none");
    assert_string_equal(word_for(world, 3, false), "none");
    assert_null(rollouts_for(world->rollouts, NULL, porch(), false, true));
    world_free(world);
}

static const struct rollout *holding(const struct world *world, const uint8_t md5[16])
{
    return rollouts_holding(world->rollouts, porch(), false, md5);
}

/* Else an image that killed its canaries is offered to all as the newest, once the rollout has ended. */
static void test_what_keeps_an_image_back(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.canary = 1;
    assert_null(holding(world, target_md5));
    order(world, ID_A, 0, 3);
    assert_ptr_equal(holding(world, target_md5), world->rollout);
    assert_null(holding(world, other_md5));
    assert_null(rollouts_holding(world->rollouts, porch(), true, target_md5));
    flashes_in_vain(world, 0);
    assert_ptr_equal(holding(world, target_md5), world->rollout);
    memcpy(world->order.target.md5[0], other_md5, 16);
    world->order.canary = 0;
    order(world, ID_B, 0, 3); /* the mended build supersedes it: the halted one stays suspect */
    assert_int_equal(rollout_of(world, ID_A)->state, ROLLOUT_ABORTED);
    assert_ptr_equal(holding(world, target_md5), rollout_of(world, ID_A));
    memcpy(world->order.target.md5[0], target_md5, 16);
    order(world, ID_C, 0, 1); /* ordered again: the operator knows */
    updates(world, 0);
    assert_null(holding(world, target_md5));
    assert_null(holding(world, other_md5)); /* superseded while all was well */
    world_free(world);
}

/* An operator's abort keeps it back, for named devices too; and these keep it from nobody before. */
static void test_abort_distrusts(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    struct mac device = mac_of(0);
    world->order.named = true;
    world->order.devices = &device;
    world->order.device_count = 1;
    order(world, ID_A, 0, 1);
    assert_null(holding(world, target_md5));
    assert_int_equal(op_abort(world), STATUS_OK);
    assert_ptr_equal(holding(world, target_md5), world->rollout);
    assert_string_equal(world->rollout->why, "by an operator");
    world_free(world);
}

/* --- room ------------------------------------------------------------------------------------------------------------
 */

static void order_nth(struct world *world, unsigned n)
{
    char id[ANNOUNCE_ID_SIZE];
    snprintf(id, sizeof id, "%016x", n + 1);
    snprintf(world->order.target.type, sizeof world->order.target.type, "type%u", n);
    begin_as(world, id);
}

static void finish_at_once(struct world *world)
{
    struct rollout_joiner joiner = { .mac = mac_of(0), .skip_why = "runs it already" };
    rollout_join(world->rollout, &joiner, &world->now);
    start(world);
}

/* Else memory grows with each order; or a type's last word is forgotten, or what was aborted. */
static void test_room(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    order_nth(world, 0);
    (void)op_abort(world);
    for (unsigned i = 1; i < ROLLOUTS_MAX; i++) {
        order_nth(world, i);
        finish_at_once(world);
        assert_string_equal(word_of(world), "done");
    }
    snprintf(world->order.target.type, sizeof world->order.target.type, "type2");
    begin_as(world, "00000000000000ff"); /* the oldest leaves the list */
    finish_at_once(world);
    assert_int_equal(rollouts_count(world->rollouts), ROLLOUTS_MAX);
    assert_true(rollouts_find(world->rollouts, slice_of("0000000000000001"))->word_only); /* for it is suspect */
    assert_int_equal(world->forgotten, 0);
    snprintf(world->order.target.type, sizeof world->order.target.type, "type1");
    begin_as(world, "00000000000000fe");
    assert_true(rollouts_find(world->rollouts, slice_of("0000000000000002"))->word_only);
    finish_at_once(world);
    begin_as(world, "00000000000000fd"); /* type2's first word had been replaced, and so is type1's now */
    assert_null(rollouts_find(world->rollouts, slice_of("0000000000000002")));
    assert_null(rollouts_find(world->rollouts, slice_of("0000000000000003")));
    assert_int_equal(world->forgotten, 2);
    assert_int_equal(rollouts_count(world->rollouts), ROLLOUTS_MAX);
    world_free(world);
}

static const struct rollout *word_on(const struct world *world, const char *type)
{
    const struct mac mac = mac_of(7);
    return rollouts_for(world->rollouts, &mac, slice_of(type), false, true);
}

/* Else the 65th type that is published makes the first one's devices be told that nothing is, and for ever. */
static void test_words_of_many_types_stand(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    char type[20], id[ANNOUNCE_ID_SIZE];
    size_t seen = 0;
    order_nth(world, 500);
    (void)op_abort(world);
    for (unsigned i = 0; i < 200; i++) {
        order_nth(world, i);
        finish_at_once(world);
    }
    assert_int_equal(world->forgotten, 0);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(type, sizeof type, "type%u", i);
        snprintf(id, sizeof id, "%016x", i + 1);
        assert_non_null(word_on(world, type));
        assert_string_equal(word_on(world, type)->id, id);
    }
    assert_non_null(rollouts_holding(world->rollouts, slice_of("type500"), false, target_md5));
    assert_int_equal(rollouts_count(world->rollouts), ROLLOUTS_MAX);
    for (const struct rollout *rollout = NULL; (rollout = rollouts_next(world->rollouts, rollout)) != NULL;) {
        seen++;
    }
    assert_int_equal(seen, 201);
    world_free(world);
}

/* Of orders to a part of a type, the last ones; else a check looks through thousands. */
static void test_words_to_a_part(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    struct mac only = mac_of(7);
    char id[ANNOUNCE_ID_SIZE];
    size_t words = 0;
    world->order.named = true;
    world->order.device_count = 1;
    world->order.devices = &only;
    for (unsigned i = 0; i < 3 * ROLLOUTS_MAX; i++) {
        snprintf(id, sizeof id, "%016x", i + 1);
        begin_as(world, id);
        finish_at_once(world);
    }
    const struct rollout *rollout = rollouts_of_type(world->rollouts, porch(), false);
    for (; rollout != NULL; rollout = rollout_older_of_type(rollout)) {
        words++;
    }
    assert_in_range(words, ROLLOUT_WORDS_OF_TYPE, ROLLOUTS_MAX + 1);
    assert_string_equal(word_on(world, "porch")->id, id);
    world_free(world);
}

/* Never a silent loss: an order that would add one is refused, one that replaces one is not. */
static void test_no_room_for_words(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    for (unsigned i = 0; i < ROLLOUT_WORDS_MAX + ROLLOUTS_MAX; i++) {
        order_nth(world, i);
        finish_at_once(world);
    }
    snprintf(world->order.target.type, sizeof world->order.target.type, "one more");
    assert_null(rollouts_begin(world->rollouts, ID_A, &world->order, &world->now));
    assert_false(rollouts_have_word_for(world->rollouts, &world->order));
    snprintf(world->order.target.type, sizeof world->order.target.type, "type9");
    begin_as(world, ID_B);
    assert_int_equal(world->forgotten, 0);
    assert_non_null(word_on(world, "type0"));
    world_free(world);
}

static void test_no_room(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    for (unsigned i = 0; i < ROLLOUTS_MAX; i++) {
        order_nth(world, i);
    }
    snprintf(world->order.target.type, sizeof world->order.target.type, "one more");
    assert_null(rollouts_begin(world->rollouts, ID_A, &world->order, &world->now));
    assert_int_equal(rollouts_count(world->rollouts), ROLLOUTS_MAX);
    assert_int_equal(world->forgotten, 0);
    assert_string_equal(rollouts_at(world->rollouts, 0)->id, "0000000000000040");
    assert_null(rollouts_at(world->rollouts, ROLLOUTS_MAX));
    world_free(world);
}

/* --- its image
 * --------------------------------------------------------------------------------------------------------
 */

static enum status op_resume_now(struct world *world)
{
    const char *why;
    return rollout_resume(world->rollout, &world->now, &why);
}

/* Else its devices are told of what nobody can give them. */
static void test_its_image_goes(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    snprintf(world->order.target.file, sizeof world->order.target.file, "porch/2.0.bin");
    begin(world, 3);
    rollout_image_found(world->rollout, false, &world->now); /* its devices are still being gathered */
    assert_string_equal(word_of(world), "planned");
    start(world);
    assert_string_equal(word_of(world), "halted");
    assert_non_null(strstr(world->rollout->why, "porch/2.0.bin"));
    assert_int_equal(world->told_count, 0);
    assert_int_equal(op_resume_now(world), STATUS_INVALID);
    rollout_image_found(world->rollout, true, &world->now);
    assert_string_equal(word_of(world), "halted"); /* until an operator says so */
    assert_int_equal(op_resume_now(world), STATUS_OK);
    assert_string_equal(word_of(world), "running");
    assert_int_equal(world->told_count, 1);
    rollout_image_found(world->rollout, true, &world->now);
    assert_string_equal(word_of(world), "running");
    rollout_image_found(world->rollout, false, &world->now);
    assert_string_equal(word_of(world), "halted");
    world_free(world);
}

/* Keys have changed, and whether they vouch for it is being read: no reason to halt, nor to give anybody up. */
static void test_its_image_is_awaited(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 2;
    set_going(world, 3);
    assert_int_equal(world->told_count, 2);
    rollout_image_awaited(world->rollout);
    is_withheld(world, 0, "rejected");
    is_withheld(world, 2, "rejected");
    assert_string_equal(word_of(world), "running");
    assert_string_equal(state_of(world, 0), "queued");
    assert_string_equal(state_of(world, 2), "queued");
    pass(world, 1000);
    assert_int_equal(world->told_count, 2);
    rollout_image_found(world->rollout, true, &world->now);
    pass(world, 1000);
    assert_int_equal(world->told_count, 3);
    rollout_image_awaited(world->rollout);
    rollout_image_found(world->rollout, false, &world->now);
    assert_string_equal(word_of(world), "halted");
    world_free(world);
}

/* After a restart the whole repository may come late; but not where something else lies in its place. */
static void test_its_image_after_a_restart(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.canary = 1;
    begin(world, 3);
    rollout_image_found(world->rollout, false, &world->now);
    assert_string_equal(word_of(world), "planned");
    rollout_image_lost(world->rollout, &world->now);
    assert_string_equal(word_of(world), "halted");
    rollout_image_found(world->rollout, true, &world->now);
    start(world);
    assert_string_equal(word_of(world), "halted");
    assert_int_equal(op_resume_now(world), STATUS_OK);
    assert_string_equal(word_of(world), "canary");
    assert_int_equal(world->told_count, 1);
    world_free(world);
}

/* Else a fleet that nobody knows, whose file was put back, is told by nobody for a week. */
static void test_its_image_comes_back_before_anyone_was_told(void **unused)
{
    (void)unused;
    for (int known = 0; known <= 5; known += 5) {
        struct world *world = world_new();
        world->order.in_flight = 10;
        begin(world, known);
        rollout_image_found(world->rollout, false, &world->now);
        rollout_start(world->rollout, true, true, &world->now);
        assert_string_equal(word_of(world), "halted");
        pass(world, ROLLOUT_STAND_MS / 2); /* over a weekend, say: the broker's patience has not begun */
        rollout_image_found(world->rollout, true, &world->now);
        assert_int_equal(op_resume_now(world), STATUS_OK);
        assert_string_equal(word_of(world), "running");
        assert_true(world->told_count == 1 && last_told(world)->device == TO_THE_TYPE && world->rollout->told_type);
        assert_int_equal(world->rollout->order.window_s, known > 0 ? 0 : ROLLOUT_UNKNOWN_WINDOW_S);
        pass(world, 1000);
        assert_string_equal(word_of(world), "running");
        broker_says(world, TO_THE_TYPE, true);
        updates(world, 0);
        assert_string_equal(state_of(world, 0), "confirmed");
        world_free(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_named),
        cmocka_unit_test(test_percent),
        cmocka_unit_test(test_percent_draws_anew_for_each),
        cmocka_unit_test(test_command_ids_differ),
        cmocka_unit_test(test_superseded_whole),
        cmocka_unit_test(test_others_go_on),
        cmocka_unit_test(test_superseded_in_part),
        cmocka_unit_test(test_a_stranger_is_handed_over),
        cmocka_unit_test(test_gathering_behind_a_newer_one),
        cmocka_unit_test(test_a_download_across),
        cmocka_unit_test(test_the_word_of_a_type),
        cmocka_unit_test(test_the_word_to_some),
        cmocka_unit_test(test_published_to_some),
        cmocka_unit_test(test_what_keeps_an_image_back),
        cmocka_unit_test(test_abort_distrusts),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_words_of_many_types_stand),
        cmocka_unit_test(test_words_to_a_part),
        cmocka_unit_test(test_no_room_for_words),
        cmocka_unit_test(test_its_image_goes),
        cmocka_unit_test(test_its_image_is_awaited),
        cmocka_unit_test(test_its_image_after_a_restart),
        cmocka_unit_test(test_its_image_comes_back_before_anyone_was_told),
        cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
