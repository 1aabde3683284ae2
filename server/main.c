/* updraftd: options, then the app. */
#include "server/app.h"
#include "server/config.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct config config;
    enum config_action action;
    char message[1024];
    if (config_read(&config, argc, argv, &action, message, sizeof message) != STATUS_OK) {
        fprintf(stderr, "updraftd: %s\n", message);
        config_close(&config);
        return 1;
    }
    int exit_code = 0;
    switch (action) {
    case CONFIG_HELP:
        config_print_help(stdout);
        break;
    case CONFIG_VERSION:
        printf("updraftd %s\n", UPDRAFT_VERSION);
        break;
    case CONFIG_CHECK:
        config_print(&config, stdout);
        break;
    case CONFIG_RUN:
        return app_run(&config, argc, argv);
    }
    config_close(&config);
    return exit_code;
}
