/* One simulated device: obeys commands, asks, downloads, flashes, reboots, comes back. Read device.c from its table of
 * states. */
#ifndef TESTS_SIM_DEVICE_H
#define TESTS_SIM_DEVICE_H

#include "tests/sim/command.h"
#include "tests/sim/draw.h"
#include "tests/sim/http_client.h"
#include "tests/sim/image_stream.h"
#include "tests/sim/misbehaviour.h"
#include "tests/sim/mqtt_link.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define DEVICE_TOPIC_SIZE 128

/*    name          word          at rest: nothing comes without a command, a poll or a retry */
#define DEVICE_STATE_LIST(X)                                                                                           \
    X(STARTING, "starting", false)                                                                                     \
    X(IDLE, "idle", true)                                                                                              \
    X(WAITING, "waiting", false) /* a command's window */                                                              \
    X(CHECKING, "checking", false)                                                                                     \
    X(DOWNLOADING, "downloading", false)                                                                               \
    X(STALLED, "stalled", false)                                                                                       \
    X(FLASHING, "flashing", false)                                                                                     \
    X(REBOOTING, "rebooting", false)                                                                                   \
    X(CONFIRMED, "confirmed", true) /* runs what it was sent, and the server says that this is right */                \
    X(HELD, "held", true)           /* the server has something for it, and does not give it, as in wrong-flash */     \
    X(FAILED, "failed", true)                                                                                          \
    X(GONE, "gone", true) /* never rebooted */

enum device_state {
#define X(name, word, rests) DEVICE_##name,
    DEVICE_STATE_LIST(X)
#undef X
        DEVICE_STATE_COUNT
};

const char *device_state_word(enum device_state state);
bool device_state_rests(enum device_state state);

struct device_build {
    uint8_t md5[16];
    uint8_t sha256[32];
    uint32_t bytes;
    char version[COMMAND_VERSION_MAX + 1];
};

struct device_type;
struct fleet;

struct device {
    struct fleet *fleet;
    struct device_type *type;
    uint32_t number; /* from 1 on */
    uint8_t mac[6];
    char mac_text[13];
    uint8_t flash_mode;
    uint32_t flash_bytes;
    struct draw draw;
    enum misbehaviour misbehaviour;
    uint64_t faults_left;

    struct device_build running, next; /* next: flashed, not started yet */
    char fs_version[COMMAND_VERSION_MAX + 1];
    enum device_state state;
    bool fs;          /* what this round is about */
    bool unconfirmed; /* runs what it was sent, and the server has not said yet that this is right */
    bool rolled_back; /* started the old image after flashing another */
    bool began;       /* the first turn is over */
    bool spoiled;     /* a byte was flipped in this download */
    unsigned eager_left, retries_left, flashes; /* flashes: without a confirmation */

    const struct command *command, *waiting; /* being obeyed; to be obeyed next; NULL = none */
    const struct command **commands;         /* all with an id, in order */
    size_t command_count;
    uint64_t whole, cut, bad, confirmations, checks;
    unsigned last_status;
    char last_reason[40];
    char error[64]; /* of FAILED */

    const struct url *url; /* where it asks; NULL = nowhere yet */
    struct http_get *get;
    struct image_stream *stream;
    struct image_taker taker;
    uint64_t body_bytes, body_length;
    char body_md5[40];
    char body_file[136];
    uv_timer_t timer, poll;
    struct mqtt_link link;

    struct device *turn_next;
    bool turn_wanted, turn_taken;
};

/* What a device is: its own number, type and draws decide. `misbehaviour` is the seed's choice. */
void device_init(struct device *device, struct fleet *fleet, uint32_t number, struct device_type *type,
                 enum misbehaviour misbehaviour);
void device_close(struct device *device); /* closes its handles; its facts stay to be reported */
void device_free(struct device *device);

/* "updraft/<type>/<mac>/<last>" */
void device_topic(const struct device *device, const char *last, char to[DEVICE_TOPIC_SIZE]);

void device_turn(struct device *device); /* it may connect now */
void device_linked(struct device *device);
void device_unlinked(struct device *device);
void device_commanded(struct device *device, const char *topic, const void *payload, size_t n);

#endif
