/* Whose word goes for a device, and what keeps an image back: of a type and mode, all rollouts whose word may still
 * count, the newest first. Asked at each check, so found by a hash of the type, however many types there are.
 */
#include "fleet/rollout_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct type_words { /* of one type */
    char type[65];
    struct rollout *newest[2]; /* sketches, file systems */
    UT_hash_handle hh;
};

static struct type_words *find_type(const struct rollouts *rollouts, struct slice type)
{
    struct type_words *words = NULL;
    if (type.at != NULL) {
        HASH_FIND(hh, rollouts->types, type.at, type.len, words);
    }
    return words;
}

const struct rollout *rollouts_of_type(const struct rollouts *rollouts, struct slice type, bool fs)
{
    const struct type_words *words = find_type(rollouts, type);
    return words != NULL ? words->newest[fs] : NULL;
}

const struct rollout *rollout_older_of_type(const struct rollout *rollout)
{
    return rollout->table->older_of_type;
}

void words_add(struct rollouts *rollouts, struct rollout *rollout)
{
    const struct rollout_target *target = &rollout->order.target;
    struct type_words *words = find_type(rollouts, slice_of(target->type));
    if (words == NULL) {
        words = calloc(1, sizeof *words);
        assert(words != NULL);
        text_copy(target->type, words->type, sizeof words->type);
        HASH_ADD_KEYPTR(hh, rollouts->types, words->type, strlen(words->type), words);
    }
    struct rollout **newest = &words->newest[target->fs];
    rollout->table->older_of_type = *newest;
    if (*newest != NULL) {
        (*newest)->table->newer_of_type = rollout;
    }
    *newest = rollout;
}

void words_remove(struct rollouts *rollouts, struct rollout *rollout)
{
    const struct rollout_table *table = rollout->table;
    struct type_words *words = find_type(rollouts, slice_of(rollout->order.target.type));
    assert(words != NULL);
    *(table->newer_of_type != NULL ? &table->newer_of_type->table->older_of_type
                                   : &words->newest[rollout->order.target.fs]) = table->older_of_type;
    if (table->older_of_type != NULL) {
        table->older_of_type->table->newer_of_type = table->newer_of_type;
    }
    if (words->newest[0] == NULL && words->newest[1] == NULL) {
        HASH_DELETE(hh, rollouts->types, words);
        free(words);
    }
}

/* --- asked ----------------------------------------------------------------------------------------------------------
 */

const struct rollout *rollouts_for(const struct rollouts *rollouts, const struct mac *mac, struct slice type, bool fs,
                                   bool published)
{
    const struct rollout *word = NULL;
    for (const struct rollout *rollout = rollouts_of_type(rollouts, type, fs); rollout != NULL;
         rollout = rollout->table->older_of_type) {
        if (!rollout_is_over(rollout) && mac != NULL && rollout_means(rollouts, rollout, mac)) {
            return rollout;
        }
        bool counts = rollout->state == ROLLOUT_DONE && word == NULL &&
                      (rollout_means_all(&rollout->order) || (mac != NULL && rollout_selects(rollouts, rollout, mac)));
        if (counts) {
            word = rollout;
        }
    }
    return word != NULL && (published || word->order.target.passed_over[0] != '\0') ? word : NULL;
}

static bool is_stopped(const struct rollout *rollout)
{
    return rollout->state == ROLLOUT_HALTED || (rollout->state == ROLLOUT_ABORTED && rollout->distrusted);
}

static bool gives(const struct rollout *rollout, const uint8_t file_md5[16])
{
    for (size_t i = 0; i < rollout->order.target.image_count; i++) {
        if (memcmp(rollout->order.target.md5[i], file_md5, 16) == 0) {
            return true;
        }
    }
    return false;
}

static bool gives_all_of(const struct rollout *rollout, const struct rollout_target *target)
{
    size_t i = 0;
    while (i < target->image_count && gives(rollout, target->md5[i])) {
        i++;
    }
    return i == target->image_count;
}

/* Its word on the images that it gives goes before older ones'. */
static bool has_say(const struct rollout *rollout)
{
    return !rollout->order.named || is_stopped(rollout);
}

/* The newest rollout with that image tells: an older one may have been halted, and the operator decided anew. */
const struct rollout *rollouts_holding(const struct rollouts *rollouts, struct slice type, bool fs,
                                       const uint8_t file_md5[16])
{
    for (const struct rollout *rollout = rollouts_of_type(rollouts, type, fs); rollout != NULL;
         rollout = rollout->table->older_of_type) {
        if (gives(rollout, file_md5) && has_say(rollout)) {
            return is_stopped(rollout) || !rollout_is_over(rollout) ? rollout : NULL;
        }
    }
    return NULL;
}

/* --- what must not be forgotten --------------------------------------------------------------------------------------
 */

static bool is_word_for_all(const struct rollout *rollout)
{
    return rollout->state == ROLLOUT_DONE && rollout_means_all(&rollout->order);
}

bool word_is_needed(const struct rollout *rollout)
{
    bool done = rollout->state == ROLLOUT_DONE;
    size_t words = 0;
    for (const struct rollout *newer = rollout->table->newer_of_type; newer != NULL;
         newer = newer->table->newer_of_type) {
        bool tells_instead = !done && has_say(newer) && gives_all_of(newer, &rollout->order.target);
        words += newer->state == ROLLOUT_DONE;
        if (is_word_for_all(newer) || tells_instead) {
            return false;
        }
    }
    return done ? rollout_means_all(&rollout->order) || words < ROLLOUT_WORDS_OF_TYPE : rollout->distrusted;
}

bool rollouts_have_word_for(const struct rollouts *rollouts, const struct rollout_order *order)
{
    const struct rollout *rollout = rollouts_of_type(rollouts, slice_of(order->target.type), order->target.fs);
    while (rollout != NULL && !is_word_for_all(rollout)) {
        rollout = rollout->table->older_of_type;
    }
    return rollouts->words.count < ROLLOUT_WORDS_MAX || (rollout != NULL && rollout_means_all(order));
}
