/* A command's words in one block of memory, and images that are too large to be copied for each. What makes it hard:
 * nothing but the counting. */
#include "mqtt/publisher_content.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct shared_bytes *shared_bytes_new(size_t size)
{
    struct shared_bytes *shared = size <= SIZE_MAX - sizeof *shared ? malloc(sizeof *shared + size) : NULL;
    if (shared != NULL) {
        shared->refs = 1;
        shared->size = size;
    }
    return shared;
}

void shared_bytes_ref(struct shared_bytes *shared)
{
    assert(shared->refs > 0);
    shared->refs++;
}

void shared_bytes_unref(struct shared_bytes *shared)
{
    assert(shared->refs > 0);
    if (--shared->refs == 0) {
        free(shared);
    }
}

static const char *copy_text(char **to, const char *text)
{
    size_t n = strlen(text) + 1;
    char *at = *to;
    memcpy(at, text, n);
    *to += n;
    return at;
}

const char *content_about(const struct publisher_command *command)
{
    return command->about != NULL ? command->about : command->parts[0].topic;
}

struct content *content_new(const struct publisher_command *command, bool clear, uint64_t now_ms)
{
    const char *about = content_about(command);
    size_t bytes = sizeof(struct content) + strlen(about) + 1;
    for (size_t i = 0; i < command->part_count; i++) {
        const char *payload = command->parts[i].payload;
        bytes += strlen(command->parts[i].topic) + 1 + (clear || payload == NULL ? 1 : strlen(payload) + 1);
    }
    struct content *content = calloc(1, bytes);
    assert(content != NULL);
    bool endless = clear || command->expires_ms == 0 || command->expires_ms > UINT64_MAX - now_ms;
    char *texts = content->texts;
    content->refs = 1;
    content->about = copy_text(&texts, about);
    content->retain = clear || command->retain;
    content->deadline_ms = endless ? UINT64_MAX : now_ms + command->expires_ms;
    content->part_count = command->part_count;
    for (size_t i = 0; i < command->part_count; i++) {
        const struct publisher_part *part = &command->parts[i];
        content->parts[i].topic = copy_text(&texts, part->topic);
        if (clear || part->payload != NULL) {
            content->parts[i].payload = copy_text(&texts, clear ? "" : part->payload);
            content->parts[i].payload_bytes = clear ? 0 : strlen(part->payload);
        } else {
            assert(part->image != NULL);
            shared_bytes_ref(part->image);
            content->parts[i].image = part->image;
            content->parts[i].payload = part->image->bytes;
            content->parts[i].payload_bytes = part->image->size;
        }
    }
    return content;
}

struct content *content_ref(struct content *content)
{
    content->refs++;
    return content;
}

void content_unref(struct content *content)
{
    assert(content->refs > 0);
    if (--content->refs > 0) {
        return;
    }
    for (size_t i = 0; i < content->part_count; i++) {
        if (content->parts[i].image != NULL) {
            shared_bytes_unref(content->parts[i].image);
        }
    }
    free(content);
}
