/* The fleet's judgement through thousands of histories in virtual time: devices that misbehave in every way there is,
 * operators who pin, block, group, publish newer and older builds, pause, resume, abort and forgive. A history that
 * fails names its seed; UPDRAFT_SEED=n runs it again, UPDRAFT_HISTORIES=n runs as many.
 *
 * What must hold whatever happens:
 *  - nobody gets another type's image, or the other kind; who is blocked or not approved gets nothing; who is pinned
 *    gets the pin alone; and of a type that waits for an operator, nobody gets what was never published to him;
 *  - never more are under way than the window allows; nobody is told or served by a rollout that is paused, halted or
 *    over, and none but canaries before these are confirmed; who is not meant waits while it is given to others;
 *  - of one site not more are under way than its cap; whom a newer order means, the older one tells no more;
 *  - what was halted or aborted is given to nobody until it is ordered again;
 *  - nobody gets an image more often than the loop guard says while he comes back without it, nor ever again what he
 *    rolled back from, but by his own wish (/latest); and what all are kept from, nobody gets by it. Two with one MAC
 * are held to the loop guard, and sent a sketch a few times, not for ever;
 *  - each device is in exactly one state of a rollout, nothing waits for ever, and memory is bounded.
 */
#include "tests/unit/fleet/fleet_fixture.h"

#define THINGS_MAX   14
#define HISTORIES    1200
#define STEPS        700 /* of ten seconds */
#define TAIL_STEPS   280 /* of three hours: a month and more */
#define ROLLOUTS_OF  10  /* in one history */
#define COMMANDS_MAX 512
#define MINUTE_MS    60000u
#define SITES        3
#define TWINS_MAX    10 /* as often twins are sent one image: not for ever */

static const char *const types[] = { "porch", "garage", "attic" }; /* the second waits for an operator */

/*    what is wrong with a device */
enum habit {
    GOOD,
    CUT_NOW_AND_THEN,
    STALLS,        /* its downloads take half an hour, and break off */
    NEVER_FLASHES, /* takes all of it, and comes back with the old build: a wrong MD5 */
    NO_RESTART,    /* takes all of it, and goes on as it was */
    ROLLS_BACK,    /* after it was confirmed */
    BRICKS,
    WRONG_LABEL,
    EAGER, /* asks again at once, whatever it is told */
    OFFLINE,
    NO_DIGEST,
    DEAF,   /* to commands */
    GREEDY, /* takes the newest, whatever it runs, proved or was told; and flashes every other one */
    HABITS
};

enum doing { IDLE, DOWNLOADING, RESTARTING };

struct thing {
    unsigned number; /* of its MAC; twins share it */
    bool is_twin, has_fs, asked_whether;
    const char *type;
    enum habit habit;
    const struct build *runs, *before, *fs_runs;
    enum doing doing;
    uint64_t due_ms, poll_ms, back_ms;
    const struct build *taking;
    char rollout[ANNOUNCE_ID_SIZE]; /* by whose word it takes it; "" = nobody's */
};

/* What was seen of one MAC and one build. */
struct tale {
    unsigned whole; /* transfers, since it last came with another build or was forgiven */
    uint64_t last_ms;
    bool taken, ran, confirmed, rolled_back;
    unsigned ever; /* sent whole, when it asked whether to update */
};

struct command {
    char rollout[ANNOUNCE_ID_SIZE];
    struct mac mac;
    bool to_type;
    uint64_t due_ms;
};

struct history {
    struct yard *yard;
    uint64_t seed, random;
    struct thing things[THINGS_MAX];
    size_t count;
    struct tale tales[THINGS_MAX][BUILDS_MAX];
    struct command commands[COMMANDS_MAX];
    size_t command_count, rollout_count;
    bool quiet; /* the operators are gone */
};

static struct history *told; /* for the effects: one history at a time */

static unsigned below(struct history *history, unsigned n)
{
    history->random ^= history->random << 13; /* xorshift64, Marsaglia 2003 */
    history->random ^= history->random >> 7;
    history->random ^= history->random << 17;
    return (unsigned)(history->random >> 20) % n;
}

static struct tale *tale_of(struct history *history, const struct thing *thing, const struct build *build)
{
    return &history->tales[thing->number][build - history->yard->builds];
}

static bool is_open(const struct rollout *rollout)
{
    return rollout->state == ROLLOUT_CANARY || rollout->state == ROLLOUT_RUNNING;
}

static bool is_image_of(const struct rollout *rollout, const struct build *build)
{
    return memcmp(rollout->order.target.md5[0], build->file, 16) == 0;
}

/* --- what must hold ------------------------------------------------------------------------------------------------
 */

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fail_msg("UPDRAFT_SEED=%llu: not so: %s", (unsigned long long)told->seed, #condition);                     \
        }                                                                                                              \
    } while (0)

static bool has_member(const struct rollout *rollout, const struct mac *mac, struct rollout_member *member)
{
    return rollout_member(rollout, mac, member);
}

/* Its own rollout may go on where another that gives the same image was stopped: not where that one halted, unless an
 * operator has said so since. */
static bool goes_on_beside(const struct reply *reply, const struct rollout *other)
{
    const struct rollout *own = reply->direction.rollout;
    return own != NULL && own != other && is_open(own) && is_image_of(own, reply->served) &&
           (other->state != ROLLOUT_HALTED || own->since_ms >= other->since_ms);
}

/* The newest rollout of this image goes. */
static void check_image(const struct history *history, const struct thing *thing, const struct reply *reply)
{
    const struct rollouts *rollouts = history->yard->fleet.rollouts;
    struct mac mac = yard_mac(thing->number);
    struct rollout_member member;
    bool published = false, newest = true;
    for (size_t i = 0; i < rollouts_count(rollouts); i++) {
        const struct rollout *rollout = rollouts_at(rollouts, i);
        if (!is_image_of(rollout, reply->served)) {
            continue;
        }
        bool meant = rollout_selects(rollouts, rollout, &mac) || has_member(rollout, &mac, &member);
        published = published || (meant && (is_open(rollout) || rollout->state == ROLLOUT_DONE));
        bool goes_on = is_open(rollout) || rollout->state == ROLLOUT_PAUSED;
        bool others = rollout->order.named && goes_on && !meant; /* named ones keep it from nobody */
        if (newest && !others && !goes_on_beside(reply, rollout)) {
            MUST(rollout->state != ROLLOUT_HALTED && rollout->state != ROLLOUT_PAUSED);
            MUST(rollout->state != ROLLOUT_PLANNED);
            bool stopped = rollout->distrusted || strcmp(rollout->why, "by an operator") == 0;
            MUST(rollout->state != ROLLOUT_ABORTED || !stopped);
            MUST(!is_open(rollout) || meant);
            newest = false;
        }
    }
    MUST(published || strcmp(thing->type, types[1]) != 0);
}

/* An hour after the third, then twice as long each time, up to a day. */
static uint64_t backoff_ms(unsigned whole)
{
    uint64_t ms = whole < LOOP_GUARD_MAX ? 0 : LOOP_GUARD_BACKOFF_MS;
    for (unsigned i = LOOP_GUARD_MAX; i < whole && ms < LOOP_GUARD_BACKOFF_MAX_MS; i++) {
        ms *= 2;
    }
    return ms < LOOP_GUARD_BACKOFF_MAX_MS ? ms : LOOP_GUARD_BACKOFF_MAX_MS;
}

/* Builds that it took and never came with, or went back from. */
static size_t failed_with(struct history *history, const struct thing *thing)
{
    size_t count = 0;
    for (size_t i = 0; i < history->yard->build_count; i++) {
        const struct tale *tale = &history->tales[thing->number][i];
        count += tale->taken && (!tale->ran || tale->rolled_back);
    }
    return count;
}

static bool takes_slot(const struct rollout_member *member)
{
    return member->state == ROLLOUT_DEVICE_TRIGGERED || member->state == ROLLOUT_DEVICE_DOWNLOADING;
}

static void check_served(struct history *history, const struct thing *thing, const struct reply *reply, bool fs)
{
    struct yard *yard = history->yard;
    const struct policy_entry said = said_of(yard, thing->number);
    const struct build *build = reply->served;
    struct mac mac = yard_mac(thing->number);
    char version[8];
    version_text(build, version);
    MUST(strcmp(build->type, thing->type) == 0 && build->fs == fs);
    MUST(!said.blocked && (!yard->fleet.settings.hold_unknown || said.approved));
    MUST(said.pin == 0 || strcmp(words_text(yard->fleet.words, said.pin), version) == 0);
    if (said.pin == 0) {
        check_image(history, thing, reply);
    }
    const struct rollout *rollout = reply->direction.rollout;
    bool has_it = reply->reason == REASON_LATEST && thing->runs == build; /* and has no need of a turn */
    if (rollout != NULL && !rollout_is_over(rollout) && !has_it) {
        struct rollout_member member;
        MUST(is_open(rollout) && has_member(rollout, &mac, &member));
        MUST(rollout->state != ROLLOUT_CANARY || member.canary);
        MUST(takes_slot(&member));
    }
    const struct tale *tale = tale_of(history, thing, build);
    if (reply->reason == REASON_LATEST) {
        return; /* its own wish */
    }
    bool is_one = !thing->is_twin; /* what two devices with one MAC came with, the server cannot tell apart */
    MUST(yard->now.ms - tale->last_ms >= backoff_ms(tale->whole));
    MUST(is_one || fs || tale->ever < TWINS_MAX); /* a file system has no digest by which it could go back */
    bool remembers = failed_with(history, thing) <= NEVER_AGAIN_OF_DEVICE; /* of more it forgets the oldest */
    MUST(!is_one || !remembers || (tale->whole <= LOOP_GUARD_MAX && !tale->rolled_back));
}

/* Those that download by the word of a rollout under way, each MAC once. */
static size_t count_downloads(const struct history *history, const struct rollout *rollout)
{
    bool counted[THINGS_MAX] = { false };
    size_t count = 0;
    for (size_t i = 0; i < history->count; i++) {
        const struct thing *thing = &history->things[i];
        bool downloads = thing->doing == DOWNLOADING && strcmp(thing->rollout, rollout->id) == 0;
        struct mac mac = yard_mac(thing->number);
        struct rollout_member member;
        downloads = downloads && has_member(rollout, &mac, &member) && member.state != ROLLOUT_DEVICE_SKIPPED;
        count += downloads && !counted[thing->number];
        counted[thing->number] = counted[thing->number] || downloads;
    }
    return count;
}

static void check_sites(const struct rollout *rollout)
{
    static const enum rollout_device_state slots[] = { ROLLOUT_DEVICE_TRIGGERED, ROLLOUT_DEVICE_DOWNLOADING,
                                                       ROLLOUT_DEVICE_FLASHED };
    struct rollout_member members[THINGS_MAX];
    size_t of_site[SITES] = { 0 };
    for (size_t i = 0; rollout->order.site_in_flight > 0 && i < sizeof slots / sizeof slots[0]; i++) {
        size_t count = rollout_members(rollout, slots[i], 0, members, THINGS_MAX);
        for (size_t k = 0; k < count; k++) {
            MUST(++of_site[members[k].mac.bytes[5] % SITES] <= rollout->order.site_in_flight);
        }
    }
}

/* Who goes on with an image that halted another was told to since. */
static void check_halted(const struct rollouts *rollouts, const struct rollout *halted)
{
    for (size_t i = 0; i < rollouts_count(rollouts); i++) {
        const struct rollout *other = rollouts_at(rollouts, i);
        bool same = memcmp(other->order.target.md5[0], halted->order.target.md5[0], 16) == 0;
        MUST(!same || !is_open(other) || other->since_ms >= halted->since_ms);
    }
}

static void check_all(const struct history *history)
{
    const struct fleet *fleet = &history->yard->fleet;
    for (size_t i = 0; i < rollouts_count(fleet->rollouts); i++) {
        const struct rollout *rollout = rollouts_at(fleet->rollouts, i);
        size_t sum = 0;
        for (size_t k = 0; k < ROLLOUT_DEVICE_STATES; k++) {
            sum += rollout->devices[k];
        }
        MUST(sum == rollout->members);
        rollout_check(rollout);
        if (!rollout_is_over(rollout)) {
            MUST(rollout->in_flight <= rollout->order.in_flight);
            check_sites(rollout);
            if (rollout->state == ROLLOUT_HALTED) {
                check_halted(fleet->rollouts, rollout);
            }
            MUST(count_downloads(history, rollout) <= rollout->order.in_flight);
        } else {
            MUST(rollout->devices[ROLLOUT_DEVICE_QUEUED] == 0);
        }
    }
    MUST(devices_count(fleet->devices) <= THINGS_MAX && words_count(fleet->words) <= 64);
    MUST(never_again_count(fleet->never_again) <= THINGS_MAX && loop_guard_count(fleet->guard) <= 2 * THINGS_MAX);
}

/* --- commands ------------------------------------------------------------------------------------------------------
 */

static void on_trigger(void *owner, struct rollout *rollout, const struct mac *device, unsigned attempt)
{
    struct history *history = told;
    (void)owner;
    (void)attempt;
    MUST(is_open(rollout));
    MUST(history->command_count < COMMANDS_MAX);
    struct command *command = &history->commands[history->command_count++];
    *command = (struct command){ .to_type = device == NULL };
    memcpy(command->rollout, rollout->id, sizeof command->rollout);
    command->due_ms = history->yard->now.ms + below(history, 3) * 10000;
    if (device != NULL) {
        struct rollout_member member;
        command->mac = *device;
        MUST(has_member(rollout, device, &member) && (rollout->state != ROLLOUT_CANARY || member.canary));
        MUST(rollouts_for(history->yard->fleet.rollouts, device, slice_of(rollout->order.target.type),
                          rollout->order.target.fs, false) == rollout);
        MUST(rollout->in_flight <= rollout->order.in_flight);
    }
}

static void hear(struct history *history, const struct command *command, const char *type)
{
    for (size_t i = 0; i < history->count; i++) {
        struct thing *thing = &history->things[i];
        struct mac mac = yard_mac(thing->number);
        bool meant = command->to_type ? strcmp(thing->type, type) == 0 : mac_equal(&mac, &command->mac);
        if (meant && thing->doing == IDLE && thing->habit != DEAF && thing->habit != OFFLINE) {
            thing->poll_ms = history->yard->now.ms + below(history, 20000);
        }
    }
}

static void deliver(struct history *history)
{
    struct yard *yard = history->yard;
    for (size_t i = 0; i < history->command_count;) {
        struct command command = history->commands[i];
        if (command.due_ms > yard->now.ms) {
            i++;
            continue;
        }
        history->commands[i] = history->commands[--history->command_count];
        struct rollout *rollout = rollouts_find(yard->fleet.rollouts, slice_of(command.rollout));
        if (rollout == NULL) {
            continue;
        }
        bool taken_back = !is_open(rollout);
        bool busy = !taken_back && below(history, 50) == 0; /* the server's own queue was full */
        bool refused = taken_back || busy || below(history, 100) == 0;
        if (!refused) {
            hear(history, &command, rollout->order.target.type);
        }
        rollouts_told(rollout, command.to_type ? NULL : &command.mac,
                      busy      ? STATUS_BUSY
                      : refused ? STATUS_DENIED
                                : STATUS_OK,
                      taken_back ? "withdrawn" : "denied", &yard->now);
    }
}

/* --- devices --------------------------------------------------------------------------------------------------------
 */

/* It came with another build than it had when it was sent this one: what it was sent before counts anew. */
static void comes_with(struct history *history, const struct thing *thing, const struct build *runs)
{
    for (size_t i = 0; i < history->yard->build_count; i++) {
        const struct build *build = &history->yard->builds[i];
        struct tale *tale = tale_of(history, thing, build);
        if (build->fs != runs->fs) {
            continue;
        }
        tale->ran = tale->ran || build == runs;
        if (build == runs) {
            tale->confirmed = tale->whole > 0;
            tale->whole = 0;
            tale->rolled_back = false;
        } else if (tale->confirmed && runs == thing->before && !build->fs) {
            tale->confirmed = false;
            tale->rolled_back = true;
        } else {
            tale->confirmed = false;
        }
    }
}

static void ask_for(struct history *history, struct thing *thing, bool fs)
{
    struct yard *yard = history->yard;
    struct mac mac = yard_mac(thing->number);
    struct asking asking = { .mac = mac,
                             .type = thing->type,
                             .fs = fs,
                             .runs = fs ? thing->fs_runs : thing->runs,
                             .sketch = thing->runs,
                             .says_no_digest = thing->habit == NO_DIGEST,
                             .by_latest = thing->habit == GREEDY && !fs && below(history, 2) == 0,
                             .label = thing->habit == WRONG_LABEL ? "0.7" : NULL,
                             .site = (uint8_t)(thing->number % SITES) };
    struct reply reply = ask(yard, &asking);
    if (asking.runs != NULL) {
        comes_with(history, thing, asking.runs);
    }
    if (reply.served == NULL) {
        return;
    }
    check_served(history, thing, &reply, fs);
    thing->asked_whether = reply.reason != REASON_LATEST;
    const struct rollout *rollout = reply.direction.rollout;
    thing->rollout[0] = '\0';
    struct rollout_member member;
    if (rollout != NULL && !rollout_is_over(rollout) && has_member(rollout, &mac, &member) && takes_slot(&member)) {
        memcpy(thing->rollout, rollout->id, sizeof thing->rollout);
    }
    thing->taking = reply.served;
    thing->doing = DOWNLOADING;
    thing->due_ms = yard->now.ms + (thing->habit == STALLS ? 30 * MINUTE_MS : 5000 + below(history, 60000));
    send_begins(yard, &mac, reply.served);
}

static void end_download(struct history *history, struct thing *thing)
{
    struct mac mac = yard_mac(thing->number);
    bool cut = thing->habit == STALLS || (thing->habit == CUT_NOW_AND_THEN && below(history, 2) == 0);
    struct tale *tale = tale_of(history, thing, thing->taking);
    thing->doing = cut ? IDLE : RESTARTING;
    thing->due_ms = history->yard->now.ms + 5000 + below(history, 30000);
    for (size_t i = 0; !cut && i < history->yard->build_count; i++) { /* another image begins anew */
        const struct build *other = &history->yard->builds[i];
        tale_of(history, thing, other)->whole *= other == thing->taking || other->fs != thing->taking->fs;
    }
    tale->whole += !cut;
    tale->taken = tale->taken || !cut;
    tale->ever += !cut && thing->asked_whether;
    tale->last_ms = cut ? tale->last_ms : history->yard->now.ms;
    send_ends_of(history->yard, &mac, thing->taking, thing->habit == NO_DIGEST ? NULL : thing->runs, !cut);
}

static void restart(struct history *history, struct thing *thing)
{
    bool fs = thing->taking->fs;
    thing->doing = IDLE;
    thing->poll_ms = history->yard->now.ms;
    if (thing->habit == BRICKS) {
        thing->habit = OFFLINE;
    } else if (thing->habit != NEVER_FLASHES && thing->habit != NO_RESTART &&
               (thing->habit != GREEDY || below(history, 2) == 0)) {
        thing->before = fs ? thing->before : thing->runs;
        *(fs ? &thing->fs_runs : &thing->runs) = thing->taking;
        thing->back_ms = history->yard->now.ms + 5 * MINUTE_MS;
    }
}

static void live(struct history *history, struct thing *thing)
{
    uint64_t now = history->yard->now.ms;
    if (thing->habit == OFFLINE) {
        bool comes = below(history, 300) == 0 && !history->quiet;
        thing->poll_ms = comes ? now : UINT64_MAX;
    }
    if (thing->doing == DOWNLOADING && now >= thing->due_ms) {
        end_download(history, thing);
    } else if (thing->doing == RESTARTING && now >= thing->due_ms) {
        restart(history, thing);
    } else if (thing->doing == IDLE && thing->habit == ROLLS_BACK && thing->before != NULL && now >= thing->back_ms) {
        thing->runs = thing->before;
        thing->poll_ms = now;
        thing->back_ms = UINT64_MAX;
    }
    if (thing->doing == IDLE && now >= thing->poll_ms) {
        thing->poll_ms = now + (thing->habit == EAGER ? 1000 : 2 * MINUTE_MS + below(history, 20 * MINUTE_MS));
        if (thing->has_fs && below(history, 2) == 0) {
            ask_for(history, thing, true);
        }
        if (thing->doing == IDLE) {
            ask_for(history, thing, false);
        }
    }
}

/* --- operators -----------------------------------------------------------------------------------------------------
 */

static const struct build *any_build(struct history *history)
{
    const struct build *build = &history->yard->builds[below(history, (unsigned)history->yard->build_count)];
    return build->gone ? NULL : build;
}

static bool runs_build(const struct yard *yard, const struct device *device, const struct build *build)
{
    char text[8];
    version_text(build, text);
    return build->fs ? version_same_text(slice_of(words_text(yard->fleet.words, device->fs_version)), slice_of(text))
                     : device->has_md5 && memcmp(device->md5, build->run, 16) == 0;
}

static void join_known(struct history *history, struct rollout *rollout, const struct build *build)
{
    struct yard *yard = history->yard;
    const struct fleet *fleet = &yard->fleet;
    for (size_t i = 0; i < devices_count(fleet->devices); i++) {
        const struct device *device = devices_at(fleet->devices, i);
        struct rollout_joiner joiner = { .mac = device->mac,
                                         .site = fleet_site(device->address),
                                         .came_back = device->came_back,
                                         .away = below(history, 12) == 0 };
        bool other = strcmp(words_text(fleet->words, device->type->name), build->type) != 0;
        joiner.skip_why = runs_build(yard, device, build) ? "runs it already" : NULL;
        if (!other && rollout_selects(fleet->rollouts, rollout, &device->mac)) {
            rollout_join(rollout, &joiner, &yard->now);
        }
    }
}

static void publish(struct history *history)
{
    struct yard *yard = history->yard;
    const struct build *build = any_build(history);
    char id[ANNOUNCE_ID_SIZE];
    if (build == NULL || history->rollout_count == ROLLOUTS_OF) {
        return;
    }
    struct rollout_order order = order_of(yard, build);
    struct mac named = yard_mac(below(history, THINGS_MAX));
    order.in_flight = 1 + below(history, 5);
    order.canary = below(history, 3) == 0 ? 1 + below(history, 2) : 0;
    order.max_failures = below(history, 50);
    order.site_in_flight = below(history, 3) == 0 ? 1 + below(history, 2) : 0;
    switch (below(history, 6)) {
    case 0:
        snprintf(order.group, sizeof order.group, "g%u", below(history, 3));
        break;
    case 1:
        order.percent = 1 + below(history, 100);
        break;
    case 2:
        order.named = true;
        order.devices = &named;
        order.device_count = 1;
        break;
    default:
        break;
    }
    snprintf(id, sizeof id, "%016llx", (unsigned long long)(history->seed << 16 | ++history->rollout_count));
    struct rollout *rollout = rollouts_begin(yard->fleet.rollouts, id, &order, &yard->now);
    MUST(rollout != NULL);
    join_known(history, rollout, build);
    unsigned topics = below(history, 8); /* mostly a device's own; or the type's alone, or none: there is no broker */
    rollout_start(rollout, topics > 0 && topics<4, topics> 1, &yard->now);
}

static void steer(struct history *history)
{
    struct rollouts *rollouts = history->yard->fleet.rollouts;
    const char *why;
    for (size_t i = 0; i < rollouts_count(rollouts); i++) {
        struct rollout *rollout = rollouts_at(rollouts, i);
        if (rollout_is_over(rollout) || below(history, 3) > 0) {
            continue;
        }
        unsigned what = below(history, 6);
        if (what == 0) {
            (void)rollout_abort(rollout, "by an operator", &history->yard->now, &why);
        } else if (what < 3) {
            (void)rollout_pause(rollout, &history->yard->now, &why);
        } else {
            (void)rollout_resume(rollout, &history->yard->now, &why);
        }
    }
}

static void say_something(struct history *history)
{
    struct yard *yard = history->yard;
    unsigned i = below(history, THINGS_MAX);
    struct policy_entry entry = said_of(yard, i);
    char text[8];
    switch (below(history, 6)) {
    case 0:
        snprintf(text, sizeof text, "%u.0", 1 + below(history, 4));
        pin_to(yard, i, text);
        break;
    case 1:
        entry.pin = 0;
        entry.approved = true;
        say_of(yard, &entry);
        break;
    case 2:
        set_blocked(yard, i, below(history, 3) == 0);
        break;
    case 3:
        entry.group_count = 0;
        say_of(yard, &entry);
        snprintf(text, sizeof text, "g%u", below(history, 3));
        put_in_group(yard, i, text);
        break;
    case 4: {
        struct mac mac = yard_mac(i);
        (void)fleet_retry(&yard->fleet, &mac, &yard->now);
        memset(history->tales[i], 0, sizeof history->tales[i]);
        break;
    }
    default:
        entry.approved = true;
        say_of(yard, &entry);
    }
}

static void operate(struct history *history)
{
    struct yard *yard = history->yard;
    unsigned what = below(history, 400);
    if (what < 6) {
        publish(history);
    } else if (what < 10) {
        steer(history);
    } else if (what < 18) {
        say_something(history);
    } else if (what == 18 && yard->build_count < 24) {
        const char *type = types[below(history, 3)];
        bool fs = below(history, 3) == 0;
        const struct build *newest = find_build(yard, slice_of(type), fs, NULL);
        (void)add_build(yard, type, fs, newest != NULL ? newest->version + 1 : 1);
    }
}

/* --- a history ------------------------------------------------------------------------------------------------------
 */

static void people(struct history *history)
{
    unsigned trouble = below(history, 3) == 0 ? 1 : 4; /* one of so many misbehaves */
    history->count = 3 + below(history, THINGS_MAX - 3);
    for (size_t i = 0; i < history->count; i++) {
        struct thing *thing = &history->things[i];
        *thing = (struct thing){ .number = (unsigned)i, .type = types[below(history, 3)] };
        thing->habit = below(history, trouble) == 0 ? (enum habit)below(history, HABITS) : GOOD;
        thing->has_fs = below(history, 4) == 0;
        thing->poll_ms = history->yard->now.ms + below(history, 20 * MINUTE_MS);
        thing->back_ms = UINT64_MAX;
        thing->runs = find_build(history->yard, slice_of(thing->type), false, below(history, 2) == 0 ? "1.0" : NULL);
        thing->fs_runs = find_build(history->yard, slice_of(thing->type), true, "1.0");
    }
    if (below(history, 3) == 0) {
        struct thing *one = &history->things[0], *two = &history->things[1];
        two->number = one->number;
        two->type = one->type;
        two->runs = one->runs;
        two->fs_runs = one->fs_runs;
        one->is_twin = two->is_twin = true;
        two->habit = below(history, 2) == 0 ? NEVER_FLASHES : (enum habit)below(history, GREEDY);
        one->habit = one->habit == GREEDY ? GOOD : one->habit; /* which takes it anyway */
    }
}

static void set_up(struct history *history)
{
    const char *why;
    history->yard = yard_new(OFFER_NEWEST_TO_ALL);
    struct fleet *fleet = &history->yard->fleet;
    (void)offerings_add_line(history->yard->offerings, slice_of(types[1]), slice_of("published"), &why);
    rollouts_free(fleet->rollouts);
    history->yard->effects.trigger = on_trigger;
    fleet->rollouts = rollouts_new(&history->yard->effects);
    fleet->settings.hold_unknown = below(history, 8) == 0;
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned version = 1; version <= 2; version++) {
            (void)add_build(history->yard, types[i], false, version);
            (void)add_build(history->yard, types[i], true, version);
        }
    }
    people(history);
}

static void step(struct history *history, uint64_t ms)
{
    pass_ms(history->yard, ms);
    for (size_t i = 0; i < history->count; i++) {
        live(history, &history->things[i]);
    }
    deliver(history);
}

static void run(uint64_t seed)
{
    struct history *history = calloc(1, sizeof *history);
    assert_non_null(history);
    told = history;
    history->seed = seed;
    history->random = seed * 0x9e3779b97f4a7c15u + 1;
    set_up(history);
    for (unsigned i = 0; i < STEPS; i++) {
        step(history, 10000);
        operate(history);
        if (i % 8 == 0) {
            check_all(history);
        }
    }
    history->quiet = true; /* nobody comes back to it; most devices go on asking */
    for (unsigned i = 0; i < TAIL_STEPS; i++) {
        step(history, i < 40 ? 30000 : (uint64_t)6 * 3600000);
    }
    check_all(history);
    for (size_t i = 0; i < rollouts_count(history->yard->fleet.rollouts); i++) {
        MUST(rollout_is_over(rollouts_at(history->yard->fleet.rollouts, i)));
        MUST(rollouts_at(history->yard->fleet.rollouts, i)->in_flight == 0);
    }
    yard_free(history->yard);
    free(history);
}

static void test_histories(void **state)
{
    (void)state;
    const char *chosen = getenv("UPDRAFT_SEED"), *many = getenv("UPDRAFT_HISTORIES");
    uint64_t first = chosen != NULL ? strtoull(chosen, NULL, 10) : 1;
    uint64_t count = chosen != NULL ? 1 : many != NULL ? strtoull(many, NULL, 10) : HISTORIES;
    for (uint64_t seed = first; seed < first + count; seed++) {
        run(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_histories) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
