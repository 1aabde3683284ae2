/* The configuration as people see it: what is in effect, and what there is to set. */
#include "server/config_parts.h"

#include "server/broker_url.h"

#include <stdio.h>
#include <string.h>

/* What is not set has no line; what is secret is not shown. */
static void print_text(const struct config *config, const struct config_key *key, const char *source, FILE *to)
{
    const char *text = config_text(config, key);
    struct broker_url url;
    char shown[300], why[300];
    if (text[0] == '\0') {
        return;
    }
    switch (key->kind) {
    case KIND_TEXT:
        fprintf(to, "%s = %s ; %s\n", key->name, text, source);
        break;
    case KIND_SECRET:
        fprintf(to, "; %s is set and not shown ; %s\n", key->name, source);
        break;
    default:
        (void)broker_url_read(text, &url, why, sizeof why);
        broker_url_print(&url, shown, sizeof shown);
        fprintf(to, "%s = %s ; %s%s\n", key->name, shown, source,
                url.user[0] != '\0' ? "; user and password are not shown" : "");
        break;
    }
}

void config_print(const struct config *config, FILE *to)
{
    for (size_t i = 0; i < config_key_count; i++) {
        char number[32];
        if (strcmp(config_keys[i].name, "config") == 0) {
            continue; /* a file does not name itself */
        }
        if (config_keys[i].kind == KIND_LISTEN) {
            for (size_t k = 0; k < config->listen_count; k++) {
                fprintf(to, "%s = %s ; %s\n", config_keys[i].name, config->listen[k], config->sources[i]);
            }
        } else if (config_is_text(&config_keys[i])) {
            print_text(config, &config_keys[i], config->sources[i], to);
        } else {
            config_number_print(&config_keys[i], *config_number(config, &config_keys[i]), number, sizeof number);
            fprintf(to, "%s = %s ; %s\n", config_keys[i].name, number, config->sources[i]);
        }
    }
    fprintf(to, "; %zu devices have an assignment\n", assignments_count(config->assignments));
}

void config_print_help(FILE *to)
{
    fputs("updraftd - serves firmware updates to ESP8266 and ESP32 devices\n\n"
          "usage: updraftd [--flag VALUE ...]\n\n"
          "Each flag is also a key of the file (repo = DIR) and a variable (UPDRAFT_REPO). Flags win over the\n"
          "environment, the environment over the file, the file over the defaults shown in brackets.\n\n",
          to);
    for (size_t i = 0; i < config_key_count; i++) {
        char flag[64];
        snprintf(flag, sizeof flag, "--%s %s", config_keys[i].name, config_keys[i].argument);
        fprintf(to, "  %-28s %s%s%s%s\n", flag, config_keys[i].help, config_keys[i].fallback[0] != '\0' ? " [" : "",
                config_keys[i].fallback, config_keys[i].fallback[0] != '\0' ? "]" : "");
    }
    for (size_t i = 0; i < config_flag_count; i++) {
        fprintf(to, "  --%-26s %s\n", config_flags[i].name, config_flags[i].help);
    }
    fputs("\nSIGTERM: transfers in flight end, then exit 0. SIGHUP: read configuration and assignments again.\n"
          "Devices are assigned to an exact build in the file's section [assign] or in STATE/assignments.ini:\n"
          "  5C:CF:7F:B1:E0:42 = door DOOR-7-g14f53a19\n",
          to);
}
