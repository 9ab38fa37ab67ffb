module every_function

go 1.24

require sglhost v0.0.0

replace sglhost => ../../../guest-sdk/go
