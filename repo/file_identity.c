#include "repo/file_identity.h"

#include <sys/stat.h>

static int64_t in_ns(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

void file_identity_from(const struct stat *stat, struct file_identity *identity)
{
    *identity = (struct file_identity){
        .device = stat->st_dev,
        .inode = stat->st_ino,
        .size = (uint64_t)stat->st_size,
        .mtime_ns = in_ns(stat->st_mtim),
        .ctime_ns = in_ns(stat->st_ctim),
    };
}

bool file_identity_of(int descriptor, struct file_identity *identity)
{
    struct stat stat;
    if (fstat(descriptor, &stat) != 0 || !S_ISREG(stat.st_mode)) {
        return false;
    }
    file_identity_from(&stat, identity);
    return true;
}

bool file_identity_equal(const struct file_identity *a, const struct file_identity *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size && a->mtime_ns == b->mtime_ns &&
           a->ctime_ns == b->ctime_ns;
}
