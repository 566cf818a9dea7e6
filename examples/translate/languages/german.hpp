// translate/languages/german.hpp - dates and times in German.
#pragma once

#include "../language.hpp"

namespace translate::in_german {

inline std::string number(int n) {
  constexpr std::array<std::string_view, 20> small{
      "null",     "eins",     "zwei",     "drei",     "vier",     "fünf",    "sechs",
      "sieben",   "acht",     "neun",     "zehn",     "elf",      "zwölf",   "dreizehn",
      "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn"};
  constexpr std::array<std::string_view, 10> tens{"",        "",        "zwanzig", "dreißig", "vierzig",
                                                  "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"};
  if (n < 20) return std::string(small[n]);
  const std::string ten(tens[n / 10]);
  return n % 10 == 0 ? ten : (n % 10 == 1 ? "ein" : number(n % 10)) + "und" + ten;
}

inline std::string hour(int n) { return (n == 1 ? "ein" : number(n)) + " Uhr"; }

/// In the dative: am dritten.
inline std::string day(int n) {
  if (n == 1) return "ersten";
  if (n == 3) return "dritten";
  if (n == 7) return "siebten";
  if (n == 8) return "achten";
  return number(n) + (n < 20 ? "ten" : "sten");
}

inline std::string year(int n) {
  if (n < 2000) return "neunzehnhundert" + number(n - 1900);
  return n == 2000 ? "zweitausend" : "zweitausend" + number(n - 2000);
}

inline std::string spoken(int hours, int minute) {
  static constexpr day_part parts[] = {
      {0, " nachts"},        {5 * 60, " morgens"},      {10 * 60, " vormittags"},
      {12 * 60, " mittags"}, {14 * 60, " nachmittags"}, {18 * 60, " abends"},
      {22 * 60, " nachts"}};
  const std::string now = number(on_dial(hours)), next = number(on_dial(hours + 1));
  const auto amount = [](int m) { return m == 15 ? "viertel" : number(m); };
  std::string text = minute == 0    ? hour(on_dial(hours))
                     : minute < 25  ? amount(minute) + " nach " + now
                     : minute == 25 ? "fünf vor halb " + next
                     : minute == 30 ? "halb " + next
                     : minute == 35 ? "fünf nach halb " + next
                                    : amount(60 - minute) + " vor " + next;
  return text.append(part_of_day(parts, hours, minute));
}

inline constexpr std::string_view date_styles[] = {"{d}. {month} {yyyy}",
                                                   "{weekday}, {d}. {month} {yyyy}",
                                                   "am {d}. {month} {yyyy}",
                                                   "{dd}.{nn}.{yyyy}",
                                                   "{d}.{n}.{yy}",
                                                   "am {weekday}, dem {d}. {month} {yyyy}",
                                                   "am {day} {month} {year}",
                                                   "{wd} {d}. {mon} {yyyy}",
                                                   "am {dd}.{nn}.{yy}"};
inline constexpr std::string_view time_styles[] = {
    "{date}",
    "{date} um {H}:{mm} Uhr|{date}, {H}:{mm} Uhr|{date} {H}:{mm} Uhr",
    "{date} um {H}.{mm} Uhr|{date}, {H}.{mm} Uhr",
    "{date} um {H} Uhr|{date}, {H} Uhr",
    "{date} um {H} Uhr {min}|{date}, {H} Uhr {min}",
    "{date} um {hour} {minute}|{date}, {hour} {minute}",
    "{date} um {spoken}|{date}, {spoken}",
    "{date} um {noon}|{date}, {noon}"};

inline constexpr language german{
    .code = "de",
    .date_styles = date_styles,
    .time_styles = time_styles,
    .months = {"Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober",
               "November", "Dezember"},
    .short_months = {"Jan.", "Feb.", "März", "Apr.", "Mai", "Juni", "Juli", "Aug.", "Sept.", "Okt.", "Nov.",
                     "Dez."},
    .weekdays = {"Sonntag", "Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag"},
    .short_weekdays = {"So.", "Mo.", "Di.", "Mi.", "Do.", "Fr.", "Sa."},
    .noon = "zwölf Uhr mittags",
    .midnight = "Mitternacht",
    .am = "",
    .pm = "",
    .ordinal = digits,
    .day = day,
    .year = year,
    .hour = hour,
    .minute = number,
    .spoken = spoken};

}  // namespace translate::in_german
