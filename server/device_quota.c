#include "server/device_quota.h"

#include "base/log.h"

#include <string.h>

void device_quota_init(struct device_quota *quota)
{
    memset(quota, 0, sizeof *quota);
    frequency_init(&quota->lines);
    frequency_init(&quota->asks);
}

static uint64_t number_of(const uint8_t *bytes, size_t n)
{
    uint64_t number = 0;
    for (size_t i = 0; i < n; i++) {
        number = number << 8 | bytes[i];
    }
    return number;
}

/* Anyone may be refused, under a new name each time; what a device is told that is known, is bounded by the fleet. */
static bool costs_nothing(enum reason reason)
{
    return reason_http_status(reason) >= 400 || reason == REASON_UNAPPROVED || reason == REASON_UNASSIGNED ||
           reason == REASON_BLOCKED;
}

static void begin_minute(struct device_quota *quota, uint64_t now_ms)
{
    if (quota->since_ms != 0 && now_ms - quota->since_ms < FREQUENCY_SPAN_MS) {
        return;
    }
    if (quota->left_out > 0) {
        struct log_line line;
        log_begin(&line, LOG_WARN, "checks_left_out");
        log_number(&line, "lines", (int64_t)quota->left_out);
        log_text(&line, "remedy", "updraft_checks_total counts all by reason; --log-level debug says all");
        log_end(&line);
    }
    quota->since_ms = now_ms;
    quota->refusals = quota->busy = 0;
    quota->left_out = 0;
}

void device_quota_tick(struct device_quota *quota, uint64_t now_ms)
{
    begin_minute(quota, now_ms);
}

/* Whether the lines of all together leave room for one more. */
static bool take_of_all(struct device_quota *quota, uint64_t now_ms)
{
    uint64_t from_ms = quota->full_ms > now_ms ? quota->full_ms : now_ms;
    if (from_ms + QUOTA_EVERY_MS > now_ms + QUOTA_AT_ONCE_MAX * (uint64_t)QUOTA_EVERY_MS) {
        return false;
    }
    quota->full_ms = from_ms + QUOTA_EVERY_MS;
    return true;
}

static bool is_alike(struct device_quota *quota, const struct device_asker *asker, unsigned kind, unsigned most,
                     uint64_t now_ms)
{
    uint64_t high = asker->mac != NULL ? number_of(asker->mac->bytes, 6) : number_of(asker->address, 8);
    uint64_t low = asker->mac != NULL ? 0 : number_of(asker->address + 8, 8);
    return frequency_count(&quota->lines, high ^ (uint64_t)(kind + 1) << 48, low, now_ms)->count > most;
}

static bool count(struct device_quota *quota, bool is_said)
{
    quota->left_out += !is_said;
    return is_said;
}

bool device_quota_takes(struct device_quota *quota, const struct device_asker *asker, enum reason reason,
                        uint64_t now_ms)
{
    if (log_enabled(LOG_DEBUG)) {
        return true;
    }
    begin_minute(quota, now_ms);
    unsigned most = reason_http_status(reason) == 200 ? QUOTA_SENT_MAX : QUOTA_ALIKE_MAX;
    return count(quota, !is_alike(quota, asker, reason, most, now_ms) &&
                            !(costs_nothing(reason) && ++quota->refusals > QUOTA_REFUSALS_MAX) &&
                            take_of_all(quota, now_ms));
}

bool device_quota_takes_outcome(struct device_quota *quota, const struct mac *mac, uint64_t now_ms)
{
    struct device_asker asker = { .mac = mac };
    if (log_enabled(LOG_DEBUG)) {
        return true;
    }
    begin_minute(quota, now_ms);
    return count(quota, !is_alike(quota, &asker, REASON_COUNT, QUOTA_ALIKE_MAX, now_ms) && take_of_all(quota, now_ms));
}

unsigned device_quota_asked(struct device_quota *quota, const struct mac *mac, uint64_t now_ms)
{
    struct frequency_place *place = frequency_count(&quota->asks, number_of(mac->bytes, 6), 0, now_ms);
    bool is_again = place->told_ms != 0 && now_ms - place->told_ms < QUOTA_BUSY_AGAIN_MS;
    if (place->count < QUOTA_BUSY_MIN || is_again) {
        return 0;
    }
    begin_minute(quota, now_ms);
    if (++quota->busy > QUOTA_BUSY_MAX) {
        return 0;
    }
    place->told_ms = now_ms;
    return place->count;
}
