//! Programs: uploading, listing, naming and deleting their versions.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use sglhost_core::limits::COMPONENT_BYTES_MAX;
use sglhost_store::{NewProgram, ProgramVersion, PutProgram, is_name};

use super::parameters::{PAGE, Parameters, Segments, check_tag, shown};
use super::whole;
use crate::auth::Caller;
use crate::body::{mime, unsupported};
use crate::service::Service;
use crate::{ApiError, Tenant, json};

/// `PUT /v1/programs/{ref}?tag=`.
pub(crate) async fn put(
    State(service): State<Arc<Service>>,
    Caller(tenant): Caller,
    segments: Segments,
    request: Request,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let name = segments.program()?;
    let tag = Parameters::read(request.uri(), &["tag"])?.text("tag").map(check_tag).transpose()?;
    if !matches!(mime(request.headers()).as_deref(), Some("application/wasm" | "application/octet-stream")) {
        return Err(unsupported("application/wasm"));
    }
    let component = service.bodies.read(&tenant, request, COMPONENT_BYTES_MAX).await?;
    if component.bytes.is_empty() {
        return Err(ApiError::invalid("the body is empty; it must be the component"));
    }
    check_room(&service, &tenant).await?;
    let program = service.compile(&tenant, &component.bytes).await?;
    let said = program.description();
    let quotas = tenant.quotas();
    let digest = program.id().clone();
    let new = NewProgram {
        tenant: tenant.id.clone(),
        name,
        digest: digest.clone(),
        description: json!({"name": said.name, "description": said.description, "arguments": said.arguments}),
        tag,
        created_ms: service.now_ms(),
        programs_max: quotas.programs_max,
        program_bytes_max: quotas.program_bytes_max,
    };
    let PutProgram { version, is_new } = service.store.put_program(new, component.bytes.clone()).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(json::program_version(&version))))
}

/// What cannot be kept need not be compiled. (What is on the way at the same time is refused by the store.)
async fn check_room(service: &Service, tenant: &Tenant) -> Result<(), ApiError> {
    let (kept, quotas) = (service.store.footprint(&tenant.id).await?, tenant.quotas());
    // At the limit content that is there already may come again; above it nothing may.
    if kept.programs > quotas.programs_max || kept.program_bytes > quotas.program_bytes_max {
        let message = format!(
            "the tenant keeps {} versions of programs with {} bytes and may keep {} with {} (programs_max, \
             program_bytes_max); delete some",
            kept.programs, kept.program_bytes, quotas.programs_max, quotas.program_bytes_max
        );
        return Err(sglhost_store::StoreError::Quota(message).into());
    }
    Ok(())
}

async fn latest(service: &Service, tenant: &Tenant, name: &str) -> Result<Option<ProgramVersion>, ApiError> {
    let reference = sglhost_store::ProgramReference { name: name.to_owned(), selector: None };
    Ok(service.store.program(&tenant.id, &reference).await?)
}

/// `GET /v1/programs`.
pub(crate) async fn list(
    State(service): State<Arc<Service>>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let page = Parameters::read(request.uri(), &PAGE)?.page(&service.config.limits)?;
    if let Some(after) = page.after.as_deref().filter(|after| !is_name(after)) {
        return Err(ApiError::invalid(format!("after is {}; it must be the name of a program", shown(after))));
    }
    let programs = service.store.programs(&tenant.id, &page).await?;
    let (programs, next) = json::versions(&programs, page.limit, |program| program.name.clone());
    Ok(Json(json!({"programs": programs, "next": next})))
}

/// `GET /v1/programs/{ref}`.
pub(crate) async fn get(
    State(service): State<Arc<Service>>,
    Caller(tenant): Caller,
    segments: Segments,
) -> Result<Json<Value>, ApiError> {
    let version = find(&service, &tenant, &segments).await?;
    Ok(Json(json::program_version(&version)))
}

/// The version that a path names.
pub(crate) async fn find(service: &Service, tenant: &Tenant, segments: &Segments) -> Result<ProgramVersion, ApiError> {
    let reference = segments.reference()?;
    let version = service.store.program(&tenant.id, &reference).await?;
    version.ok_or_else(|| ApiError::not_found("there is no such program, or no such version of it"))
}

/// `GET /v1/programs/{ref}/versions`.
pub(crate) async fn versions(
    State(service): State<Arc<Service>>,
    Caller(tenant): Caller,
    segments: Segments,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let name = segments.program()?;
    let page = Parameters::read(request.uri(), &PAGE)?.page(&service.config.limits)?;
    if let Some(after) = page.after.as_deref().filter(|after| after.parse::<u32>().is_err()) {
        return Err(ApiError::invalid(format!("after is {}; it must be the number of a version", shown(after))));
    }
    let versions = service.store.versions(&tenant.id, &name, &page).await?;
    if versions.is_empty() && latest(&service, &tenant, &name).await?.is_none() {
        return Err(ApiError::not_found("there is no such program"));
    }
    let (versions, next) = json::versions(&versions, page.limit, |version| version.version.to_string());
    Ok(Json(json!({"versions": versions, "next": next})))
}

/// `PUT /v1/programs/{ref}/tags/{tag}`.
pub(crate) async fn tag(
    State(service): State<Arc<Service>>,
    Caller(tenant): Caller,
    segments: Segments,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Fields {
        #[serde(deserialize_with = "whole::required")]
        version: u32,
    }
    let (name, tag) = (segments.program()?, segments.tag()?);
    let (Fields { version }, _) =
        service.bodies.read_json(&tenant, request, service.config.limits.small_body_bytes_max).await?;
    let version = service.store.tag(&tenant.id, &name, version, &tag).await?;
    Ok(Json(json::program_version(&version)))
}

/// `DELETE /v1/programs/{ref}`.
pub(crate) async fn delete(
    State(service): State<Arc<Service>>,
    Caller(tenant): Caller,
    segments: Segments,
) -> Result<Json<Value>, ApiError> {
    let deleted = service.store.delete_program(&tenant.id, &segments.reference()?).await?;
    Ok(Json(json!({"deleted": {"versions": deleted.versions}})))
}
