#include "repo/judgement.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum image_use image_use_of(const struct filename *name)
{
    static const enum image_use uses[] = {
        [FILENAME_SKETCH] = IMAGE_USE_SKETCH, [FILENAME_SHARED_FS] = IMAGE_USE_FS, [FILENAME_FS] = IMAGE_USE_FS,
        [FILENAME_USER1] = IMAGE_USE_SLOT,    [FILENAME_USER2] = IMAGE_USE_SLOT,   [FILENAME_LABEL] = IMAGE_USE_SKETCH,
    };
    return uses[name->role];
}

void verdict_say(struct image_verdict *verdict, enum image_fault fault, const char *detail, const char *remedy)
{
    memset(verdict, 0, sizeof *verdict);
    verdict->fault = fault;
    snprintf(verdict->detail, sizeof verdict->detail, "%s", detail);
    snprintf(verdict->remedy, sizeof verdict->remedy, "%s", remedy);
}

uint8_t *file_read_all(int file, size_t size)
{
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    size_t used = 0;
    while (bytes != NULL && used < size) {
        ssize_t n = read(file, bytes + used, size - used);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? ESTALE : errno;
            free(bytes);
            return NULL;
        }
        used += (size_t)n;
    }
    return bytes;
}

void judge(const struct signature_keys *keys, const struct judged_file *file, const struct filename *name,
           const uint8_t *bytes, size_t size, struct judgement *judgement)
{
    memset(judgement, 0, sizeof *judgement);
    judgement->good =
        image_check(bytes, size, image_use_of(name), &judgement->facts, &judgement->verdict) &&
        seal_check(keys, file->folder, file->entry, bytes, &judgement->facts, &judgement->seal, &judgement->verdict);
    bool gzip = judgement->facts.gzip;
    if (judgement->good && name->gzip != gzip) {
        judgement->good = false;
        verdict_say(&judgement->verdict, IMAGE_FAULT_WRONG_USE,
                    gzip ? "the file is compressed, its name does not end in .gz"
                         : "the file is not compressed, its name ends in .gz",
                    gzip ? "add .gz to the name" : "take .gz off the name");
    }
}
