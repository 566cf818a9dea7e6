// translate/languages/spanish.hpp - dates and times in Spanish.
#pragma once

#include "../language.hpp"

namespace translate::in_spanish {

inline std::string number(int n) {
  constexpr std::array<std::string_view, 30> small{
      "cero",         "uno",         "dos",        "tres",        "cuatro",     "cinco",
      "seis",         "siete",       "ocho",       "nueve",       "diez",       "once",
      "doce",         "trece",       "catorce",    "quince",      "dieciséis",  "diecisiete",
      "dieciocho",    "diecinueve",  "veinte",     "veintiuno",   "veintidós",  "veintitrés",
      "veinticuatro", "veinticinco", "veintiséis", "veintisiete", "veintiocho", "veintinueve"};
  constexpr std::array<std::string_view, 10> tens{"",          "",        "",        "treinta", "cuarenta",
                                                  "cincuenta", "sesenta", "setenta", "ochenta", "noventa"};
  if (n < 30) return std::string(small[n]);
  return std::string(tens[n / 10]) + (n % 10 > 0 ? " y " + number(n % 10) : "");
}

inline std::string day(int n) { return n == 1 ? "primero" : number(n); }

inline std::string year(int n) {
  if (n < 2000) return "mil novecientos " + number(n - 1900);
  return n == 2000 ? "dos mil" : "dos mil " + number(n - 2000);
}

inline std::string hour(int n) { return n == 21 ? "las veintiuna horas" : "las " + number(n) + " horas"; }
inline std::string minute(int n) {
  const std::string count = n == 1                  ? "un"
                            : n == 21               ? "veintiún"
                            : n % 10 == 1 && n > 30 ? number(n - 1) + " y un"
                                                    : number(n);
  return count + (n == 1 ? " minuto" : " minutos");
}

inline std::string spoken(int hours, int minutes) {
  static constexpr day_part parts[] = {{0, " de la madrugada"},
                                       {6 * 60, " de la mañana"},
                                       {12 * 60, " del mediodía"},
                                       {12 * 60 + 35, " de la tarde"},
                                       {20 * 60, " de la noche"}};
  const int named_hour = on_dial(minutes > 30 ? hours + 1 : hours);
  std::string text = named_hour == 1 ? "la una" : "las " + number(named_hour);
  text += minutes == 0    ? ""
          : minutes == 15 ? " y cuarto"
          : minutes == 30 ? " y media"
          : minutes == 45 ? " menos cuarto"
          : minutes < 30  ? " y " + number(minutes)
                          : " menos " + number(60 - minutes);
  return text.append(part_of_day(parts, hours, minutes));
}

inline constexpr std::string_view date_styles[] = {"el {d} de {month} de {yyyy}",
                                                   "{d} de {month} de {yyyy}",
                                                   "{weekday}, {d} de {month} de {yyyy}",
                                                   "el {weekday} {d} de {month} de {yyyy}",
                                                   "el {dd}/{nn}/{yyyy}",
                                                   "el {d}/{n}/{yy}",
                                                   "el {day} de {month} de {year}",
                                                   "{wd}, {d} {mon} {yyyy}",
                                                   "{weekday} {dd}-{nn}-{yyyy}"};
inline constexpr std::string_view time_styles[] = {"{date}",
                                                   "{date}, {HH}:{mm}|{date} {HH}:{mm}",
                                                   "{date}, {H}.{mm} h|{date}, {H}.{mm} horas",
                                                   "{date}, {h}:{mm} {am}|{date} - {h}:{mm} {am}",
                                                   "{date} a {hour} y {minute}|{date}, {hour} y {minute}",
                                                   "{date} a {spoken}|{date}, {spoken}",
                                                   "{date} a {noon}|{date}, {noon}"};

inline constexpr language spanish{
    .code = "es",
    .date_styles = date_styles,
    .time_styles = time_styles,
    .months = {"enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre",
               "octubre", "noviembre", "diciembre"},
    .short_months = {"ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sep", "oct", "nov", "dic"},
    .weekdays = {"domingo", "lunes", "martes", "miércoles", "jueves", "viernes", "sábado"},
    .short_weekdays = {"dom", "lun", "mar", "mié", "jue", "vie", "sáb"},
    .noon = "mediodía",
    .midnight = "medianoche",
    .am = "a. m.",
    .pm = "p. m.",
    .ordinal = digits,
    .day = day,
    .year = year,
    .hour = hour,
    .minute = minute,
    .spoken = spoken};

}  // namespace translate::in_spanish
