/* The running server: owns everything, starts it in order, stops it in reverse. */
#ifndef SERVER_APP_H
#define SERVER_APP_H

#include "base/status.h"
#include "server/config.h"

#include <stddef.h>

/* Runs until a signal ends it; takes over `config`. argc and argv are read again on SIGHUP. Returns the exit code: 0
 * after an orderly end, 1 where it could not start (said on stderr). */
int app_run(struct config *config, int argc, char *const *argv);

#endif
