/* What several rooms need of files and libc does not give. Blocking but for file_socket_name: for worker threads. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

/* Syncs the folder that `path` lies in: a rename is safe from a crash only then. */
enum status file_sync_folder(const char *path);

/* All of a plain file, with a NUL behind it that `n` does not count; to be freed, by file_forget where it is secret.
 * NOT_FOUND, DENIED, IO, CHANGED, NO_MEMORY; INVALID: no plain file; TOO_LONG: more than `max` bytes. */
enum status file_read(const char *path, size_t max, char **bytes, size_t *n);
void file_forget(char *bytes, size_t n); /* wipes and frees; NULL is fine */

/* A name for the Unix socket at `path` that fits struct sockaddr_un's 107 bytes: the path itself, or one by the
 * descriptor of its folder, which stays open as long as the process. Returns false where the folder is not there, or
 * the file's own name is too long. */
bool file_socket_name(const char *path, char *name, size_t size);

#endif
