/* How a device can misbehave, and which ones do: a share of the fleet each, chosen by the seed. */
#ifndef TESTS_SIM_MISBEHAVIOUR_H
#define TESTS_SIM_MISBEHAVIOUR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*    name          word            what it does */
#define MISBEHAVIOUR_LIST(X)                                                                                           \
    X(NONE, "none", "as it should")                                                                                    \
    X(DROP, "drop", "P:AT  closes the download at AT % of the body (50)")                                              \
    X(STALL, "stall", "stops reading in the middle, keeps the socket for --stall-time")                                \
    X(BAD_MD5, "bad-md5", "a byte flips on the way: the MD5 fails, the old sketch stays")                              \
    X(NEVER_REBOOT, "never-reboot", "flashes, and is not heard of again")                                              \
    X(OLD_IMAGE, "old-image", "comes back on the old image, as after a rollback")                                      \
    X(WRONG_LABEL, "wrong-label", "comes back on the new image with the old version label")                            \
    X(EAGER, "eager", "asks again at once after a 304, up to 20 times")                                                \
    X(TWINS, "twins", "two devices with one MAC; P % of the devices are such")                                         \
    X(SILENT, "silent", "ignores commands")

enum misbehaviour {
#define X(name, word, text) MISBEHAVIOUR_##name,
    MISBEHAVIOUR_LIST(X)
#undef X
        MISBEHAVIOUR_COUNT
};

const char *misbehaviour_word(enum misbehaviour misbehaviour);
const char *misbehaviour_text(enum misbehaviour misbehaviour);

struct misbehaviour_share {
    double percent;
    uint32_t at_percent; /* of the body; DROP */
};

/* Who does what: writes `count` entries. A device has one misbehaviour at most, so the shares together are at most
 * 100 %. Each share is rounded to whole devices, and is at least one where it is not 0. */
void misbehaviour_choose(const struct misbehaviour_share shares[MISBEHAVIOUR_COUNT], uint64_t seed,
                         enum misbehaviour *of_device, size_t count);

#endif
