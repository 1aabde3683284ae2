/* Devices are shuffled by the seed and dealt out, kind by kind: a share is a number of devices, not a chance, so that
 * a test of four devices can count on two. */
#include "tests/sim/misbehaviour.h"

#include "tests/sim/draw.h"

#include <assert.h>
#include <stdlib.h>

static const struct {
    const char *word;
    const char *text;
} kinds[] = {
#define X(name, word, text) { word, text },
    MISBEHAVIOUR_LIST(X)
#undef X
};

const char *misbehaviour_word(enum misbehaviour misbehaviour)
{
    assert(misbehaviour < MISBEHAVIOUR_COUNT);
    return kinds[misbehaviour].word;
}

const char *misbehaviour_text(enum misbehaviour misbehaviour)
{
    assert(misbehaviour < MISBEHAVIOUR_COUNT);
    return kinds[misbehaviour].text;
}

static size_t share_of(double percent, size_t count)
{
    size_t n = (size_t)(percent * (double)count / 100.0 + 0.5);
    return percent > 0 && n == 0 && count > 0 ? 1 : n;
}

void misbehaviour_choose(const struct misbehaviour_share shares[MISBEHAVIOUR_COUNT], uint64_t seed,
                         enum misbehaviour *of_device, size_t count)
{
    struct draw draw = draw_of(seed, UINT64_MAX / 2); /* no device's own */
    size_t *order = calloc(count + 1, sizeof *order);
    assert(order != NULL);
    for (size_t i = 0; i < count; i++) {
        size_t j = (size_t)draw_below(&draw, i + 1);
        order[i] = order[j];
        order[j] = i;
        of_device[i] = MISBEHAVIOUR_NONE;
    }
    size_t next = 0;
    for (unsigned kind = 1; kind < MISBEHAVIOUR_COUNT; kind++) {
        for (size_t left = share_of(shares[kind].percent, count); left > 0 && next < count; left--) {
            of_device[order[next++]] = (enum misbehaviour)kind;
        }
    }
    free(order);
}
