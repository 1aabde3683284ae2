/* Just so much of an Arduino core, for a host's compiler, that examples/mqtt_update can be run: written by hand from
 * the cores' documentation. What it knows of the libraries is what we believe of them; what the sketch makes of a
 * command is what is tested. Every call of interest is a line on standard output. */
#ifndef TESTS_SUPPORT_ARDUINO_ARDUINO_H
#define TESTS_SUPPORT_ARDUINO_ARDUINO_H

#include <cctype>
#include <cstdint>
#include <cstdio>
#include <string>

typedef uint8_t byte;

class String
{
  public:
    String(const char *from = "") : text(from)
    {
    }
    String(const std::string &from) : text(from)
    {
    }
    String &operator+=(char one)
    {
        return text += one, *this;
    }
    bool operator!=(const String &other) const
    {
        return text != other.text;
    }
    int indexOf(const String &what, unsigned from = 0) const
    {
        return place(text.find(what.text, from));
    }
    int indexOf(char what, unsigned from = 0) const
    {
        return place(text.find(what, from));
    }
    unsigned length() const
    {
        return (unsigned)text.size();
    }
    const char *c_str() const
    {
        return text.c_str();
    }

    /* As the cores have it: an `end` before `begin` swaps them, one behind the text (and -1 is that) means its end. */
    String substring(unsigned begin, unsigned end) const
    {
        unsigned from = begin < end ? begin : end, to = begin < end ? end : begin;
        to = to < length() ? to : length();
        return from < to ? String(text.substr(from, to - from)) : String();
    }

    void replace(const String &what, const String &with)
    {
        for (size_t at = 0; (at = text.find(what.text, at)) != std::string::npos; at += with.text.size()) {
            text.replace(at, what.text.size(), with.text);
        }
    }

    void toLowerCase()
    {
        for (char &one : text) {
            one = (char)tolower((unsigned char)one);
        }
    }

    friend String operator+(const String &left, const String &right)
    {
        return String(left.text + right.text);
    }

  private:
    static int place(size_t at)
    {
        return at == std::string::npos ? -1 : (int)at;
    }
    std::string text;
};

struct SerialPort {
    void begin(int)
    {
    }
    void println(const String &)
    {
    }
};

static SerialPort Serial;

static inline unsigned long millis()
{
    static unsigned long now;
    return now += 10;
}

#endif
