/* A repository on disk for one test: a folder of its own, files in it, and its removal. What makes it hard: the code
 * under test looks at times and at open files, so a file is written and closed, or dropped in by rename, on purpose. */
#ifndef TESTS_UNIT_REPO_REPO_FIXTURE_H
#define TESTS_UNIT_REPO_REPO_FIXTURE_H

#include "tests/support/image_make.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

struct folder {
    char path[256];
};

struct file_path {
    char text[1024];
};

static inline struct file_path in_folder(const struct folder *folder, const char *name)
{
    struct file_path path;
    snprintf(path.text, sizeof path.text, "%s/%s", folder->path, name);
    return path;
}

/* Another user may look inside: some tests take root's rights off. */
static inline void folder_make(struct folder *folder)
{
    const char *parent = getenv("TMPDIR");
    snprintf(folder->path, sizeof folder->path, "%s/updraft-repo-XXXXXX", parent != NULL ? parent : "/tmp");
    const char *made = mkdtemp(folder->path);
    assert(made != NULL);
    int error = chmod(folder->path, 0755);
    assert(made != NULL && error == 0);
    (void)error;
}

static inline int remove_entry(const char *path, const struct stat *stat, int flag, struct FTW *where)
{
    (void)stat;
    (void)flag;
    (void)where;
    return remove(path);
}

static inline void folder_remove(const struct folder *folder, const char *name)
{
    int error = nftw(in_folder(folder, name).text, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    assert(error == 0);
    (void)error;
}

/* Makes the folders above `name`. */
static inline void folder_make_parents(const struct folder *folder, const char *name)
{
    struct file_path path = in_folder(folder, name);
    for (char *at = path.text + strlen(folder->path) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        (void)mkdir(path.text, 0755);
        *at = '/';
    }
}

static inline void folder_write(const struct folder *folder, const char *name, const void *bytes, size_t n)
{
    folder_make_parents(folder, name);
    FILE *file = fopen(in_folder(folder, name).text, "wb");
    assert(file != NULL);
    size_t written = fwrite(bytes, 1, n, file);
    int error = fclose(file);
    assert(written == n && error == 0);
    (void)error;
}

static inline void folder_rename(const struct folder *folder, const char *from, const char *to)
{
    folder_make_parents(folder, to);
    int error = rename(in_folder(folder, from).text, in_folder(folder, to).text);
    assert(error == 0);
    (void)error;
}

static inline void folder_link(const struct folder *folder, const char *to, const char *name)
{
    folder_make_parents(folder, name);
    int error = symlink(to, in_folder(folder, name).text);
    assert(error == 0);
    (void)error;
}

static inline void folder_put(const struct folder *folder, const char *name, const struct image_make *wish)
{
    size_t n;
    uint8_t *bytes = image_make(wish, &n);
    folder_write(folder, name, bytes, n);
    free(bytes);
}

static inline bool folder_holds(const struct folder *folder, const char *name, const void *bytes, size_t n)
{
    static uint8_t found[100000];
    FILE *file = fopen(in_folder(folder, name).text, "rb");
    assert(file != NULL);
    size_t got = fread(found, 1, sizeof found, file);
    fclose(file);
    return got == n && memcmp(found, bytes, n) == 0;
}

/* Entries of one folder, folders too. */
static inline size_t folder_count(const struct folder *folder, const char *name)
{
    size_t count = 0;
    DIR *dir = opendir(in_folder(folder, name).text);
    assert(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    closedir(dir);
    return count;
}

/* As `mv` does it: the file is whole at once. */
static inline void folder_drop(const struct folder *folder, const char *name, const struct image_make *wish)
{
    folder_put(folder, ".dropped", wish);
    folder_rename(folder, ".dropped", name);
}

#endif
