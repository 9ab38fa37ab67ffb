package sglhost

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Arguments of a program: from the JSON object of a run to the fields of a struct, and to JSON Schema for the
// description.

// argument is a field of the program's arguments.
type argument struct {
	name, description string
	index             int
	of                reflect.Type
	// JSON; none if it has none.
	fallback json.RawMessage
	// A pointer may be left out.
	required bool
}

var rawJSON = reflect.TypeFor[json.RawMessage]()

// argumentsOf reads a struct's fields. What cannot be an argument panics: the program is wrong, whatever it is given.
func argumentsOf(of reflect.Type) []argument {
	if of.Kind() != reflect.Struct {
		panic(fmt.Sprintf("sglhost.Program: the arguments are a struct, and not a %v", of))
	}
	var arguments []argument
	for i := range of.NumField() {
		field := of.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = snakeCase(field.Name)
		}
		argument := argument{name: name, description: field.Tag.Get("doc"), index: i, of: field.Type}
		if !isArgument(field.Type) {
			panic(fmt.Sprintf("sglhost.Program: argument %q cannot be a %v: it is a string, a bool, a number, a "+
				"pointer or slice of those, or json.RawMessage or any for whatever there is", name, field.Type))
		}
		if text, has := field.Tag.Lookup("default"); has {
			argument.fallback = defaultOf(name, text, field.Type)
		}
		argument.required = argument.fallback == nil && field.Type.Kind() != reflect.Pointer
		arguments = append(arguments, argument)
	}
	return arguments
}

// snakeCase makes max_tokens of MaxTokens, and top_k of TopK.
func snakeCase(name string) string {
	var snake strings.Builder
	letters := []rune(name)
	for i, letter := range letters {
		begins := unicode.IsUpper(letter) && i > 0 &&
			(!unicode.IsUpper(letters[i-1]) || i+1 < len(letters) && unicode.IsLower(letters[i+1]))
		if begins && letters[i-1] != '_' {
			snake.WriteByte('_')
		}
		snake.WriteRune(unicode.ToLower(letter))
	}
	return snake.String()
}

func isAnything(of reflect.Type) bool {
	return of == rawJSON || of.Kind() == reflect.Interface && of.NumMethod() == 0
}

func isArgument(of reflect.Type) bool {
	switch {
	case isAnything(of):
		return true
	case of.Kind() == reflect.Pointer, of.Kind() == reflect.Slice:
		return isArgument(of.Elem())
	}
	return of.Kind() != reflect.Uintptr && isPlain(reflect.Zero(of).Interface())
}

// defaultOf is a default as JSON. Text needs no quotes.
func defaultOf(name, text string, of reflect.Type) json.RawMessage {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	var written []byte
	if of.Kind() == reflect.String {
		written = toJSON(text)
	} else {
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(text)); err != nil {
			panic(fmt.Sprintf("sglhost.Program: the default of argument %q is no JSON: %v", name, err))
		}
		written = compact.Bytes()
	}
	if problem := take(written, reflect.New(of).Elem()); problem != "" {
		panic(fmt.Sprintf("sglhost.Program: the default of argument %q %s", name, problem))
	}
	return written
}

// toJSON writes what cannot fail: text and numbers, and maps and lists of them.
func toJSON(value any) []byte {
	text, err := marshal(value)
	if err != nil {
		panic(err)
	}
	return text
}

// marshal leaves <, > and & as they are: nobody puts this into a page.
func marshal(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}

func schemaOf(of reflect.Type) map[string]any {
	typed := func(name string) map[string]any { return map[string]any{"type": name} }
	switch kind := of.Kind(); {
	case isAnything(of):
		return map[string]any{}
	case kind == reflect.Pointer:
		return schemaOf(of.Elem())
	case kind == reflect.Slice:
		schema := typed("array")
		schema["items"] = schemaOf(of.Elem())
		return schema
	case kind == reflect.String:
		return typed("string")
	case kind == reflect.Bool:
		return typed("boolean")
	case kind == reflect.Float32, kind == reflect.Float64:
		return typed("number")
	}
	schema := typed("integer")
	low, high := bounds(of)
	// 64-bit bounds are no news to anybody, and JSON readers round them.
	if of.Bits() < 64 {
		schema["maximum"] = high
	}
	if of.Bits() < 64 || low == 0 {
		schema["minimum"] = low
	}
	return schema
}

// bounds of an integer type.
func bounds(of reflect.Type) (low int64, high uint64) {
	if kind := of.Kind(); kind >= reflect.Uint && kind <= reflect.Uint64 {
		return 0, 1<<of.Bits() - 1
	}
	return -1 << (of.Bits() - 1), 1<<(of.Bits()-1) - 1
}

// describeProgram is the program's description as a JSON document, with the arguments in the order of the fields.
func describeProgram(name, description string, arguments []argument) string {
	var properties, required []string
	for _, argument := range arguments {
		schema := schemaOf(argument.of)
		if argument.description != "" {
			schema["description"] = argument.description
		}
		if argument.fallback != nil {
			schema["default"] = argument.fallback
		}
		properties = append(properties, fmt.Sprintf("%s:%s", toJSON(argument.name), toJSON(schema)))
		if argument.required {
			required = append(required, string(toJSON(argument.name)))
		}
	}
	return fmt.Sprintf(
		`{"name":%s,"description":%s,"arguments":{"type":"object","properties":{%s},"required":[%s],`+
			`"additionalProperties":false}}`,
		toJSON(name), toJSON(description), strings.Join(properties, ","), strings.Join(required, ","))
}

// takeArguments reads the JSON object of a run into a struct.
func takeArguments(text string, arguments []argument, into reflect.Value) *Error {
	if strings.TrimSpace(text) == "" {
		text = "{}"
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &given); err != nil && !json.Valid([]byte(text)) {
		return invalid("the arguments are no JSON: %v", err)
	} else if err != nil || given == nil {
		return invalid("the arguments must be a JSON object of names and values")
	}
	names := []string{}
	for _, argument := range arguments {
		names = append(names, argument.name)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(names, name) {
			takes := "no arguments"
			if len(names) > 0 {
				takes = strings.Join(names, ", ")
			}
			return invalid("unknown argument %q; the program takes %s", name, takes)
		}
	}
	for _, argument := range arguments {
		value := given[argument.name]
		if isNull(value) && argument.fallback != nil {
			value = argument.fallback
		}
		if value == nil {
			if argument.required {
				return invalid("missing argument %q", argument.name)
			}
			continue
		}
		if problem := take(value, into.Field(argument.index)); problem != "" {
			return invalid("argument %q %s", argument.name, problem)
		}
	}
	return nil
}

func isNull(value json.RawMessage) bool {
	return value == nil || string(bytes.TrimSpace(value)) == "null"
}

// take reads a value, or says what it must be and what it is, as in "must be an integer, and is text".
func take(value json.RawMessage, into reflect.Value) (problem string) {
	of := into.Type()
	switch kind := of.Kind(); {
	case isAnything(of):
		if err := json.Unmarshal(value, into.Addr().Interface()); err != nil {
			return "cannot be read: " + err.Error()
		}
		return ""
	case kind == reflect.Pointer:
		if isNull(value) {
			into.SetZero()
			return ""
		}
		into.Set(reflect.New(of.Elem()))
		return take(value, into.Elem())
	case kind == reflect.Slice:
		var items []json.RawMessage
		if isNull(value) || json.Unmarshal(value, &items) != nil {
			return mustBe("a list", value)
		}
		list := reflect.MakeSlice(of, len(items), len(items))
		for i, item := range items {
			if problem := take(item, list.Index(i)); problem != "" {
				return fmt.Sprintf("item %d %s", i, problem)
			}
		}
		into.Set(list)
		return ""
	case kind == reflect.String:
		var text string
		if isNull(value) || json.Unmarshal(value, &text) != nil {
			return mustBe("text", value)
		}
		into.SetString(text)
		return ""
	case kind == reflect.Bool:
		var truth bool
		if isNull(value) || json.Unmarshal(value, &truth) != nil {
			return mustBe("true or false", value)
		}
		into.SetBool(truth)
		return ""
	case kind == reflect.Float32, kind == reflect.Float64:
		var number float64
		if isNull(value) || json.Unmarshal(value, &number) != nil {
			return mustBe("a number", value)
		}
		into.SetFloat(number)
		return ""
	}
	return takeInteger(value, into)
}

func takeInteger(value json.RawMessage, into reflect.Value) (problem string) {
	var number json.Number
	if isNull(value) || bytes.HasPrefix(bytes.TrimSpace(value), []byte(`"`)) || json.Unmarshal(value, &number) != nil {
		return mustBe("an integer", value)
	}
	low, high := bounds(into.Type())
	outside := fmt.Sprintf("must be from %d to %d, and is %s", low, high, number)
	digits := number.String()
	// A JSON number may be written 3.0.
	if strings.ContainsAny(digits, ".eE") {
		float, err := number.Float64()
		if err != nil || float != math.Trunc(float) || math.Abs(float) >= 9e15 {
			return fmt.Sprintf("must be an integer, and is %s", number)
		}
		digits = strconv.FormatInt(int64(float), 10)
	}
	if low == 0 {
		whole, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || whole > high {
			return outside
		}
		into.SetUint(whole)
		return ""
	}
	whole, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || whole < low || whole > 0 && uint64(whole) > high {
		return outside
	}
	into.SetInt(whole)
	return ""
}

func mustBe(wanted string, value json.RawMessage) string {
	is := "a number"
	switch bytes.TrimSpace(value)[0] {
	case 'n':
		is = "null"
	case 't', 'f':
		is = "a boolean"
	case '"':
		is = "text"
	case '[':
		is = "a list"
	case '{':
		is = "an object"
	}
	return fmt.Sprintf("must be %s, and is %s", wanted, is)
}
