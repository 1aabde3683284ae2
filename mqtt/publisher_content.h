/* What a command says: counted, because the command, its message on the way, and the retained copy share it. Private to
 * mqtt/.
 */
#ifndef MQTT_PUBLISHER_CONTENT_H
#define MQTT_PUBLISHER_CONTENT_H

#include "mqtt/publisher.h"

struct content {
    unsigned refs;
    const char *about; /* in texts */
    bool retain;
    uint64_t deadline_ms; /* loop time; UINT64_MAX = none */
    size_t part_count;
    struct {
        const char *topic; /* in texts */
        const void *payload;
        size_t payload_bytes;
        struct shared_bytes *image; /* counted; NULL where the payload is in texts */
    } parts[ANNOUNCE_PARTS_MAX];
    char texts[];
};

/* One count. `clear`: the same topics, with nothing in them. */
struct content *content_new(const struct publisher_command *command, bool clear, uint64_t now_ms);
struct content *content_ref(struct content *content);
void content_unref(struct content *content);

/* What the command is about. */
const char *content_about(const struct publisher_command *command);

#endif
