package sglhost

import "fmt"

// Prompt is a piece to append, or several in order: text, generated text, images, messages. [Gen], [Select], [User] and
// others make one. It does nothing until it is appended.
//
// Whatever takes parts takes, in any order: a Prompt; a string, or anything whose kind is string; a number or a bool,
// written as fmt.Print writes it; a fmt.Stringer. Anything else is a mistake in the program, and panics.
type Prompt struct{ parts []part }

type kind int

const (
	kindText kind = iota
	kindMarkup
	kindTokens
	kindImage
	kindGen
	kindBeginRole
	kindEndRole
)

type part struct {
	kind   kind
	text   string // Text, markup, a role.
	tokens []uint32
	bytes  []byte
	asked  *generation
}

// Join makes one Prompt of several parts.
func Join(parts ...any) Prompt {
	var joined Prompt
	for _, each := range parts {
		switch each := each.(type) {
		case Prompt:
			joined.parts = append(joined.parts, each.parts...)
		case string:
			joined.parts = append(joined.parts, part{text: each})
		case []byte:
			panic("sglhost: cannot append a []byte: write sglhost.Image(bytes) or string(bytes)")
		default:
			joined.parts = append(joined.parts, part{text: written(each)})
		}
	}
	return joined
}

func written(value any) string {
	if text, ok := value.(fmt.Stringer); ok {
		return text.String()
	}
	if !isPlain(value) {
		panic(fmt.Sprintf("sglhost: cannot append a %T: make text of it first", value))
	}
	return fmt.Sprint(value)
}

func one(kind kind, text string) Prompt { return Prompt{[]part{{kind: kind, text: text}}} }

// Text is plain text; it never becomes control tokens, whatever it says. A string by itself is the same.
func Text(text string) Prompt { return one(kindText, text) }

// Markup is text in which the model's special tokens are recognised. Never pass it what a user wrote: it can forge
// roles.
func Markup(text string) Prompt { return one(kindMarkup, text) }

// Tokens are the model's own, as they are.
func Tokens(tokens ...uint32) Prompt {
	return Prompt{[]part{{kind: kindTokens, tokens: append([]uint32{}, tokens...)}}}
}

// Image is a picture: the bytes of a PNG, JPEG, WebP or GIF file (first frame).
func Image(bytes []byte) Prompt {
	return Prompt{[]part{{kind: kindImage, bytes: append([]byte{}, bytes...)}}}
}

// Role is a whole message of any role that the model's chat template knows.
func Role(role string, parts ...any) Prompt { return Join(RoleBegin(role), Join(parts...), RoleEnd()) }

// RoleBegin is the beginning of a message of any role.
func RoleBegin(role string) Prompt { return one(kindBeginRole, role) }

// RoleEnd is the end of the message that was begun last.
func RoleEnd() Prompt { return one(kindEndRole, "") }

// System is a whole system message.
func System(parts ...any) Prompt { return Role("system", parts...) }

// SystemBegin is the beginning of a system message.
func SystemBegin() Prompt { return RoleBegin("system") }

// SystemEnd is the end of a system message.
func SystemEnd() Prompt { return RoleEnd() }

// User is a whole message of the user.
func User(parts ...any) Prompt { return Role("user", parts...) }

// UserBegin is the beginning of a message of the user.
func UserBegin() Prompt { return RoleBegin("user") }

// UserEnd is the end of a message of the user.
func UserEnd() Prompt { return RoleEnd() }

// Assistant is a whole message of the assistant.
func Assistant(parts ...any) Prompt { return Role("assistant", parts...) }

// AssistantBegin is the beginning of a message of the assistant.
func AssistantBegin() Prompt { return RoleBegin("assistant") }

// AssistantEnd is the end of a message of the assistant.
func AssistantEnd() Prompt { return RoleEnd() }
