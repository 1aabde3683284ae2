/* What a file's bytes come to, and what vouches for them. Blocking: for the scan's thread. */
#ifndef REPO_JUDGEMENT_H
#define REPO_JUDGEMENT_H

#include "proto/image.h"
#include "repo/filename.h"
#include "repo/seal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A file as the walk met it. */
struct judged_file {
    int folder;
    const char *entry; /* its name in there */
    const char *path;  /* from the repository on */
};

struct judgement {
    bool good;
    struct image_facts facts;     /* where it is good */
    struct image_verdict verdict; /* where it is not */
    struct seal seal;             /* with which that stands */
};

enum image_use image_use_of(const struct filename *name);

/* All bytes of the opened file, to be freed, or NULL with errno: ESTALE where it became shorter. Read, not mapped: a
 * file that shrinks meanwhile must not fault. */
uint8_t *file_read_all(int file, size_t size);

/* The bytes are judged once they have been read: what is served later is compared with the digests made here. `keys` as
 * in seal_check. */
void judge(const struct signature_keys *keys, const struct judged_file *file, const struct filename *name,
           const uint8_t *bytes, size_t size, struct judgement *judgement);

void verdict_say(struct image_verdict *verdict, enum image_fault fault, const char *detail, const char *remedy);

#endif
