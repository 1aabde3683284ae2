/* The station, connected from the start; the same on both chips. */
#ifndef TESTS_SUPPORT_ARDUINO_WIFI_H
#define TESTS_SUPPORT_ARDUINO_WIFI_H

#include <Arduino.h>

enum { WIFI_STA, WL_CONNECTED };

class WiFiClient
{
};

struct Station {
    void mode(int)
    {
    }
    void begin(const char *, const char *)
    {
    }
    int status()
    {
        return WL_CONNECTED;
    }
    String macAddress()
    {
        return "5C:CF:7F:B1:E0:42";
    }
};

static Station WiFi;

#endif
