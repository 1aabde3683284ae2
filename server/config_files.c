/* Files that the configuration names: those of the table's keys that take a FILE, and of the variables
 * UPDRAFT_…_FILE. */
#include "server/config_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void tell(const char *path, config_file_fn on_file, void *owner)
{
    if (path != NULL && path[0] != '\0') {
        on_file(owner, path);
    }
}

static void tell_secret(const struct config_key *key, config_file_fn on_file, void *owner)
{
    char variable[CONFIG_VARIABLE_MAX], name[CONFIG_VARIABLE_MAX + 8];
    config_variable(key, variable);
    snprintf(name, sizeof name, "%s_FILE", variable);
    tell(getenv(name), on_file, owner);
}

void config_each_file(const struct config *config, config_file_fn on_file, void *owner)
{
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        if (config_is_secret(key)) {
            tell_secret(key, on_file, owner);
        } else if (strcmp(key->argument, "FILE") == 0 && config_is_list(key)) {
            const struct config_list *list = config_list(config, key);
            for (size_t k = 0; k < list->count; k++) {
                tell(list->texts[k], on_file, owner);
            }
        } else if (strcmp(key->argument, "FILE") == 0) {
            tell(config_text(config, key), on_file, owner);
        }
    }
}
