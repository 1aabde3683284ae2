/* The updater, by the names of both cores. It finds nothing new. */
#ifndef TESTS_SUPPORT_ARDUINO_HTTPUPDATE_H
#define TESTS_SUPPORT_ARDUINO_HTTPUPDATE_H

#include <WiFi.h>

struct Updater {
    int update(WiFiClient &, const String &url, const String &version)
    {
        return printf("update %s %s\n", url.c_str(), version.c_str());
    }
    String getLastErrorString()
    {
        return "";
    }
};

static Updater httpUpdate, ESPhttpUpdate;

#endif
