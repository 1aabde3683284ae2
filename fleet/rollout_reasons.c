/* Why devices of a rollout were skipped, counted by reason: of all of them, and over restarts, when most are listed
 * nowhere.
 */
#include "fleet/rollout_parts.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* "loop-guard: sent whole 3 times" and "loop-guard: sent whole 4 times" are one reason. */
static size_t reason_bytes(const char *why)
{
    size_t bytes = strcspn(why, ":");
    return bytes < ROLLOUT_REASON_SIZE ? bytes : ROLLOUT_REASON_SIZE - 1;
}

static bool is_word(const struct rollout_reason *reason, const char *word, size_t bytes)
{
    return strlen(reason->word) == bytes && memcmp(reason->word, word, bytes) == 0;
}

/* Its place, a free one where it is new; the last is for all that find none. One that nobody has any more stays: what
 * is taken back is then found where it was counted, unless that was among the others. */
static struct rollout_reason *find_reason(struct rollout_reasons *reasons, const char *why)
{
    size_t bytes = reason_bytes(why), i = 0;
    while (i < ROLLOUT_REASONS_MAX - 1 && reasons->all[i].word[0] != '\0' && !is_word(&reasons->all[i], why, bytes)) {
        i++;
    }
    struct rollout_reason *reason = &reasons->all[i];
    if (i == ROLLOUT_REASONS_MAX - 1) {
        why = ROLLOUT_REASON_OTHER;
        bytes = strlen(why);
    }
    if (reason->word[0] == '\0') {
        memcpy(reason->word, why, bytes);
        reason->word[bytes] = '\0';
    }
    return reason;
}

void reasons_add(struct rollout_reasons *reasons, const char *why, size_t count)
{
    find_reason(reasons, why[0] != '\0' ? why : ROLLOUT_REASON_OTHER)->count += count;
}

void reasons_take(struct rollout_reasons *reasons, const char *why)
{
    struct rollout_reason *reason = find_reason(reasons, why[0] != '\0' ? why : ROLLOUT_REASON_OTHER);
    reason->count -= reason->count > 0;
}
