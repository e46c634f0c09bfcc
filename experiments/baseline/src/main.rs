//! A plain HTTP server to compare with, as one writes it in an afternoon.
//!
//! ```text
//! PUT /set/{key}   form field `value`   200, or 409 if the key exists
//! GET /get/{key}                        200 and the value, or 404
//! ```

use actix_web::{App, HttpResponse, HttpServer, web};
use clap::Parser;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, PoisonError},
};

/// A key-value store of actix-web and a mutex around a HashMap, to compare others with.
#[derive(Parser)]
#[command(version, after_help = "Example:\n  trine-baseline --port 8000 --workers 2")]
struct Arguments {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Threads that answer requests [default: one for each CPU]
    #[arg(long)]
    workers: Option<usize>,
}

type Store = Mutex<HashMap<String, String>>;

#[derive(serde::Deserialize)]
struct Form {
    value: String,
}

async fn set(store: web::Data<Store>, key: web::Path<String>, form: web::Form<Form>) -> HttpResponse {
    // A thread that panicked has left whole entries behind.
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    match store.entry(key.into_inner()) {
        Entry::Occupied(_) => HttpResponse::Conflict().finish(),
        Entry::Vacant(place) => {
            place.insert(form.into_inner().value);
            HttpResponse::Ok().finish()
        }
    }
}

async fn get(store: web::Data<Store>, key: web::Path<String>) -> HttpResponse {
    let value = store.lock().unwrap_or_else(PoisonError::into_inner).get(key.as_str()).cloned();
    value.map_or_else(|| HttpResponse::NotFound().finish(), |value| HttpResponse::Ok().body(value))
}

fn routes(config: &mut web::ServiceConfig) {
    config.route("/set/{key}", web::put().to(set)).route("/get/{key}", web::get().to(get));
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let store = web::Data::new(Store::default());
    let mut server = HttpServer::new(move || App::new().app_data(store.clone()).configure(routes));
    if let Some(workers) = arguments.workers {
        server = server.workers(workers.max(1));
    }
    server.bind((arguments.host.as_str(), arguments.port))?.run().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test;

    /// The first value of a key stays, and what nobody set is not there.
    #[actix_web::test]
    async fn the_first_value_stays() {
        let store = web::Data::new(Store::default());
        let app = test::init_service(App::new().app_data(store).configure(routes)).await;
        for (value, status) in [("first", 200), ("second", 409)] {
            let request = test::TestRequest::put().uri("/set/key:1").set_form([("value", value)]).to_request();
            assert_eq!(test::call_service(&app, request).await.status(), status);
        }
        let request = test::TestRequest::get().uri("/get/key:1").to_request();
        assert_eq!(test::call_and_read_body(&app, request).await, "first");
        let request = test::TestRequest::get().uri("/get/key:2").to_request();
        assert_eq!(test::call_service(&app, request).await.status(), 404);
    }
}
