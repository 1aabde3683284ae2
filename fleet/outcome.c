/* One table of rules, of which the first that holds gives the verdict, as in proto/decision. */
#include "fleet/outcome.h"

#include "proto/version.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

typedef bool (*rule_fn)(const struct outcome_case *the_case);

static bool is_open(const struct outcome_case *the_case)
{
    return the_case->sent->outcome == OUTCOME_OPEN;
}

static bool nothing_sent(const struct outcome_case *the_case)
{
    return the_case->sent->unix_s == 0;
}

static bool runs_sent(const struct outcome_case *the_case)
{
    return the_case->runs_sent && the_case->sent->outcome != OUTCOME_CONFIRMED;
}

/* A file system has no digest, nor has a sketch of an old core: then the version judges. */
static bool by_version(const struct outcome_case *the_case)
{
    return the_case->fs || the_case->md5 == NULL;
}

static bool said_nothing(const struct outcome_case *the_case)
{
    return by_version(the_case) && the_case->version.len == 0;
}

static bool same_slice(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static bool same_as_before(const struct outcome_case *the_case)
{
    return by_version(the_case) ? same_slice(the_case->version, the_case->version_before)
                                : the_case->md5_before != NULL && memcmp(the_case->md5, the_case->md5_before, 16) == 0;
}

static bool old_again(const struct outcome_case *the_case)
{
    return is_open(the_case) && same_as_before(the_case);
}

void outcome_version_key(struct slice version, uint8_t key[OUTCOME_KEY_BYTES])
{
    uint64_t fnv = 0xcbf29ce484222325u; /* FNV-1a: these are compared, one with another of the same device */
    for (size_t i = 0; i < version.len; i++) {
        fnv = (fnv ^ (uint8_t)version.at[i]) * 0x100000001b3u;
    }
    static_assert(sizeof fnv == OUTCOME_KEY_BYTES && sizeof fnv == sizeof((struct device_transfer *)0)->before,
                  "a record has that much room for it");
    memcpy(key, &fnv, sizeof fnv);
}

/* It was seen running it, and now runs what it ran before that. With a third build somebody else flashed it. A file
 * system does not go back by itself. */
static bool left_it(const struct outcome_case *the_case)
{
    const struct device_transfer *sent = the_case->sent;
    uint8_t key[OUTCOME_KEY_BYTES];
    outcome_version_key(the_case->version, key);
    return sent->outcome == OUTCOME_CONFIRMED && !the_case->fs && !the_case->runs_sent &&
           memcmp(by_version(the_case) ? key : the_case->md5, sent->before, sizeof key) == 0;
}

static bool something_else(const struct outcome_case *the_case)
{
    return is_open(the_case);
}

static const struct {
    rule_fn holds;
    enum outcome outcome;
} rules[] = {
    { nothing_sent, OUTCOME_NONE },   { said_nothing, OUTCOME_NONE },   { runs_sent, OUTCOME_CONFIRMED },
    { left_it, OUTCOME_ROLLED_BACK }, { old_again, OUTCOME_OLD_BUILD }, { something_else, OUTCOME_OTHER_BUILD },
};

static void name_both(const struct outcome_case *the_case, struct outcome_verdict *verdict)
{
    char said[3 * WORD_TEXT_MAX + 1], sent[3 * WORD_TEXT_MAX + 1];
    text_escape(the_case->version, said, sizeof said);
    text_escape(the_case->sent_version, sent, sizeof sent);
    const char *calls = said[0] != '\0' ? said : "nothing";
    switch (verdict->outcome) {
    case OUTCOME_CONFIRMED:
        if (verdict->wrong_label) {
            snprintf(verdict->detail, sizeof verdict->detail,
                     "it runs what it was sent, and calls it %.60s, where the file's name says %.60s", calls, sent);
        }
        break;
    case OUTCOME_OLD_BUILD:
        snprintf(verdict->detail, sizeof verdict->detail,
                 "took all of %.60s and came back with what it ran before: it did not flash it, or rolled back", sent);
        break;
    case OUTCOME_ROLLED_BACK:
        snprintf(verdict->detail, sizeof verdict->detail, "ran %.60s, and came back with another build (%.60s)", sent,
                 calls);
        break;
    case OUTCOME_OTHER_BUILD:
        snprintf(verdict->detail, sizeof verdict->detail, "%s %.60s and came back with a third build (%.60s)%s",
                 "took all of", sent, calls, the_case->knows_sent ? "" : "; the file is gone, so nobody can tell");
        break;
    default:
        break;
    }
}

/* What calls itself nothing is not called wrongly. */
static bool is_wrong_label(const struct outcome_case *the_case)
{
    return !the_case->fs && the_case->version.len > 0 && the_case->sent_version.len > 0 &&
           !version_same_text(the_case->version, the_case->sent_version);
}

void outcome_judge(const struct outcome_case *the_case, struct outcome_verdict *verdict)
{
    *verdict = (struct outcome_verdict){ .outcome = OUTCOME_NONE };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (rules[i].holds(the_case)) {
            verdict->outcome = rules[i].outcome;
            break;
        }
    }
    verdict->wrong_label = verdict->outcome == OUTCOME_CONFIRMED && is_wrong_label(the_case);
    if (verdict->outcome != OUTCOME_NONE) { /* mostly it is */
        name_both(the_case, verdict);
    }
}

static const struct {
    bool failure, images_fault;
} judged[OUTCOME_COUNT] = {
    [OUTCOME_OLD_BUILD] = { true, true },    [OUTCOME_ROLLED_BACK] = { true, true },
    [OUTCOME_OTHER_BUILD] = { true, false }, [OUTCOME_CUT] = { true, false },
    [OUTCOME_REPORTED] = { true, true },
};

bool outcome_is_failure(enum outcome outcome)
{
    return judged[outcome].failure;
}

bool outcome_is_images_fault(enum outcome outcome)
{
    return judged[outcome].images_fault;
}
