/* Which file, and which state of it: tells without reading whether a file is the one that was looked at before. */
#ifndef REPO_FILE_IDENTITY_H
#define REPO_FILE_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

struct stat;

struct file_identity {
    uint64_t device;
    uint64_t inode;
    uint64_t size;
    int64_t mtime_ns;
    int64_t ctime_ns; /* also moved by a rename or a changed time: what cannot be set back */
};

void file_identity_from(const struct stat *stat, struct file_identity *identity);
bool file_identity_of(int descriptor, struct file_identity *identity); /* false: fstat failed, or no regular file */
bool file_identity_equal(const struct file_identity *a, const struct file_identity *b);

#endif
